//! Accounts: what they own, what is locked, how many transactions they sent.

use podl_chain_spec::Amount;
use serde::{Deserialize, Serialize};

use crate::types::Height;

/// Money that does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// A sum does not fit; the supply check makes this unreachable for amounts that exist.
    #[error("an amount overflows")]
    Overflow,
    /// Less there than needed.
    #[error("{got} there, {need} needed (smallest units)", got = .got.0, need = .need.0)]
    Insufficient {
        /// What is there.
        got: Amount,
        /// What is needed.
        need: Amount,
    },
}

/// One account. An account that never was is all zero and is not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Free to spend.
    pub balance: Amount,
    /// Transactions sent so far.
    pub nonce: u64,
    /// Rewards and freed bonds by the height at which they become free: rising, distinct. Entries that are due are
    /// folded into the balance only when the account is written next, so that blocks touch no account for it.
    pub locked: Vec<(Height, Amount)>,
}

impl Account {
    /// What can be spent in the block at `height`.
    pub fn spendable(&self, height: Height) -> Amount {
        let due = self.locked.iter().take_while(|(until, _)| *until <= height);
        // Every sum of money that exists is below the supply, which fits.
        due.fold(self.balance, |sum, (_, amount)| sum.checked_add(*amount).unwrap_or(Amount(u64::MAX)))
    }

    /// What is still locked in the block at `height`.
    pub fn still_locked(&self, height: Height) -> Amount {
        let held = self.locked.iter().filter(|(until, _)| *until > height);
        held.fold(Amount::ZERO, |sum, (_, amount)| sum.checked_add(*amount).unwrap_or(Amount(u64::MAX)))
    }

    /// Everything it owns, locked or not.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn total(&self) -> Result<Amount, MoneyError> {
        let mut amounts = self.locked.iter().map(|(_, amount)| *amount);
        amounts.try_fold(self.balance, Amount::checked_add).ok_or(MoneyError::Overflow)
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Moves what is due at `height` into the balance.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn fold_due(&mut self, height: Height) -> Result<(), MoneyError> {
        let due = self.locked.partition_point(|(until, _)| *until <= height);
        for (_, amount) in self.locked.drain(..due) {
            self.balance = self.balance.checked_add(amount).ok_or(MoneyError::Overflow)?;
        }
        Ok(())
    }

    /// Adds to the balance.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn credit(&mut self, amount: Amount) -> Result<(), MoneyError> {
        self.balance = self.balance.checked_add(amount).ok_or(MoneyError::Overflow)?;
        Ok(())
    }

    /// Takes from the balance. Fold what is due before.
    ///
    /// # Errors
    /// [`MoneyError::Insufficient`].
    pub fn debit(&mut self, amount: Amount) -> Result<(), MoneyError> {
        let short = MoneyError::Insufficient { got: self.balance, need: amount };
        self.balance = self.balance.checked_sub(amount).ok_or(short)?;
        Ok(())
    }

    /// Locks new money until a height; amounts with one height are merged.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn lock(&mut self, until: Height, amount: Amount) -> Result<(), MoneyError> {
        if amount == Amount::ZERO {
            return Ok(());
        }
        match self.locked.binary_search_by_key(&until, |(height, _)| *height) {
            Ok(place) => {
                let entry = &mut self.locked[place].1;
                *entry = entry.checked_add(amount).ok_or(MoneyError::Overflow)?;
            }
            Err(place) => self.locked.insert(place, (until, amount)),
        }
        Ok(())
    }

    /// Takes a bond: from what is locked longest first, so that the owner keeps what it could spend, then from the
    /// balance. Nothing changes when it does not suffice.
    ///
    /// # Errors
    /// [`MoneyError`].
    pub fn take_bond(&mut self, bond: Amount) -> Result<(), MoneyError> {
        let total = self.total()?;
        if total < bond {
            return Err(MoneyError::Insufficient { got: total, need: bond });
        }
        let mut missing = bond.0;
        while let Some((until, amount)) = self.locked.pop() {
            if amount.0 > missing {
                self.locked.push((until, Amount(amount.0 - missing)));
                return Ok(());
            }
            missing -= amount.0;
        }
        self.debit(Amount(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: u64, locked: &[(u64, u64)]) -> Account {
        Account { balance: Amount(balance), nonce: 0, locked: locked.iter().map(|(h, a)| (*h, Amount(*a))).collect() }
    }

    #[test]
    fn locks_merge_by_height_and_fold_when_due() {
        let mut a = account(5, &[]);
        for (until, amount) in [(9, 1), (7, 2), (9, 3), (8, 0)] {
            a.lock(until, Amount(amount)).unwrap();
        }
        assert_eq!(a, account(5, &[(7, 2), (9, 4)]));
        assert_eq!((a.spendable(6), a.spendable(7), a.spendable(9)), (Amount(5), Amount(7), Amount(11)));
        assert_eq!(a.still_locked(7), Amount(4));
        a.fold_due(8).unwrap();
        assert_eq!(a, account(7, &[(9, 4)]));
        assert_eq!(a.total(), Ok(Amount(11)));
    }

    #[test]
    fn a_bond_comes_from_the_longest_locks_first() {
        let mut a = account(5, &[(7, 2), (9, 4)]);
        a.take_bond(Amount(5)).unwrap();
        assert_eq!(a, account(5, &[(7, 1)]));
        a.take_bond(Amount(4)).unwrap();
        assert_eq!(a, account(2, &[]));
        let before = a.clone();
        assert_eq!(a.take_bond(Amount(3)), Err(MoneyError::Insufficient { got: Amount(2), need: Amount(3) }));
        assert_eq!(a, before);
    }

    #[test]
    fn sums_are_checked() {
        let mut a = account(u64::MAX, &[(7, 1)]);
        assert_eq!(a.total(), Err(MoneyError::Overflow));
        assert_eq!(a.credit(Amount(1)), Err(MoneyError::Overflow));
        assert_eq!(a.fold_due(7), Err(MoneyError::Overflow));
        let mut b = account(1, &[(7, u64::MAX)]);
        assert_eq!(b.lock(7, Amount(1)), Err(MoneyError::Overflow));
        assert_eq!(b.debit(Amount(2)), Err(MoneyError::Insufficient { got: Amount(1), need: Amount(2) }));
    }
}
