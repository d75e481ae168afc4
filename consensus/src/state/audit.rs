//! Where all the money of a state is: a recount over every entry, for people who do not take the recorded supply on trust.

use podl_chain_spec::Amount;

use super::view::decode_value;
use super::{Account, Meta, StateError, StateKey, TaskStatus};
use crate::types::Height;

/// Sums over the entries of one state, beside what its consensus part records. Sums are wider than amounts, so that a
/// damaged state cannot make them wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplyAudit {
    /// Height of the state.
    pub height: Height,
    /// Supply as recorded.
    pub supply: Amount,
    /// Everything ever made after genesis, as recorded.
    pub minted: Amount,
    /// Everything ever burned, as recorded.
    pub burned: Amount,
    /// Accounts found.
    pub accounts: u64,
    /// What they can spend in the next block.
    pub spendable: u128,
    /// What they have locked beyond it.
    pub locked: u128,
    /// Bonds of today's seats.
    pub seat_bonds: u128,
    /// Tasks found that hold money: the live ones.
    pub tasks: u64,
    /// Rewards of their unspent rounds.
    pub escrow: u128,
    /// Their bonds.
    pub task_bonds: u128,
}

impl SupplyAudit {
    /// An audit of the state with this consensus part, before any entry is counted.
    pub fn new(meta: &Meta) -> Self {
        Self {
            height: meta.height,
            supply: meta.supply,
            minted: meta.minted,
            burned: meta.burned,
            accounts: 0,
            spendable: 0,
            locked: 0,
            seat_bonds: meta.seats.current.iter().map(|seat| u128::from(seat.bond.0)).sum(),
            tasks: 0,
            escrow: 0,
            task_bonds: 0,
        }
    }

    /// Counts one entry of the state. Each must be given once.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] for one that is none.
    pub fn add(&mut self, raw: &[u8], bytes: &[u8]) -> Result<(), StateError> {
        let unknown = || StateError::Corrupt { key: hex::encode(raw), reason: "not a key of the state".into() };
        match StateKey::parse(raw).ok_or_else(unknown)? {
            StateKey::Account(_) => self.add_account(&decode_value(raw, bytes)?),
            // Ended tasks count too: they should hold nothing, which is for the sums to show.
            StateKey::TaskStatus(_) => self.add_task(&decode_value(raw, bytes)?),
            StateKey::Meta | StateKey::LiveTasks | StateKey::TaskSpec(_) => {}
        }
        Ok(())
    }

    fn add_account(&mut self, account: &Account) {
        let next = self.height.saturating_add(1);
        self.accounts += 1;
        self.spendable += u128::from(account.balance.0);
        for (until, amount) in &account.locked {
            let sum = if *until <= next { &mut self.spendable } else { &mut self.locked };
            *sum += u128::from(amount.0);
        }
    }

    fn add_task(&mut self, status: &TaskStatus) {
        self.tasks += u64::from(status.escrow.0 > 0 || status.bond.0 > 0);
        self.escrow += u128::from(status.escrow.0);
        self.task_bonds += u128::from(status.bond.0);
    }

    /// Everything that was found.
    pub fn total(&self) -> u128 {
        self.spendable + self.locked + self.seat_bonds + self.escrow + self.task_bonds
    }

    /// Whether what was found is the recorded supply, and that is what genesis made, more what was minted, less what was
    /// burned.
    pub fn adds_up(&self, genesis_supply: Amount) -> bool {
        let made = u128::from(genesis_supply.0) + u128::from(self.minted.0);
        let supply = u128::from(self.supply.0);
        self.total() == supply && supply + u128::from(self.burned.0) == made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::check_supply;
    use crate::testkit::{Harness, small_spec};

    fn audit(h: &Harness) -> SupplyAudit {
        let meta = h.chain.meta(&h.chain.stored().block).unwrap();
        let mut audit = SupplyAudit::new(meta);
        h.chain.store().values().for_each(|(key, value)| audit.add(key, value).unwrap());
        audit
    }

    /// A chain with an open task, a spent round and blocks enough that some of it is final.
    fn harness() -> Harness {
        let mut h = Harness::new(small_spec(4, 8));
        let (_, mut head) = h.open_task(h.genesis(), 7, 3);
        for owner in 4..8 {
            head = h.advance(head, owner, 20 + u32::try_from(owner).unwrap(), Vec::new());
        }
        h
    }

    #[test]
    fn every_final_state_adds_up_and_says_where_the_money_is() {
        let h = harness();
        let (audit, genesis) = (audit(&h), h.chain.spec().genesis_supply());
        assert!(audit.adds_up(genesis), "{audit:?}");
        assert_eq!(Ok(audit.supply), check_supply(h.chain.store().values()));
        assert_eq!(audit.height, h.chain.stored().height);
        assert!(audit.height >= 4 && audit.burned > Amount::ZERO && audit.minted > Amount::ZERO);
        assert_eq!((audit.accounts, audit.tasks), (8, 1));
        let reward = u128::from(h.chain.spec().money.min_reward.0);
        assert_eq!((audit.task_bonds, audit.escrow % reward), (reward, 0));
        assert!(audit.locked > 0, "the winner's reward is locked");
    }

    #[test]
    fn money_from_nowhere_shows() {
        let h = harness();
        let genesis = h.chain.spec().genesis_supply();
        let good = audit(&h);
        let mut forged = good.clone();
        forged.spendable += 1;
        assert!(!forged.adds_up(genesis));
        // A record that was raised together with the balance does not follow from genesis.
        forged.supply = Amount(forged.supply.0 + 1);
        assert!(!forged.adds_up(genesis));
        forged.minted = Amount(forged.minted.0 + 1);
        assert!(forged.adds_up(genesis), "minted money is accounted for");
        assert!(matches!(forged.add(b"?", b""), Err(StateError::Corrupt { .. })));
        let account = StateKey::Account(crate::testkit::account(1)).to_bytes();
        assert!(matches!(forged.add(&account, b"garbage"), Err(StateError::Corrupt { .. })));
    }
}
