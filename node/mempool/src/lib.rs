//! Mempool of a podl node as a pure state machine: transactions wait here, sorted by what they pay, until a block
//! carries them.
//!
//! Bounded in bytes, in transactions of one sender and in the gap to the sender's next nonce, so that a flood costs
//! the flooder its own places and nobody else's. A transaction that no block can carry as things stand, behind a missing
//! nonce or more money than its sender has, may wait while there is room: it takes no place from one that can be
//! carried, whatever fee it offers, since it would never pay it.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::codec;
use podl_consensus::execute::cost;
use podl_consensus::types::SignedTransaction;
use podl_consensus::verified::Verified;

/// Limits of a mempool.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of all waiting transactions.
    pub total_bytes: usize,
    /// Most waiting transactions of one sender; also how far a nonce may lie ahead.
    pub per_sender: usize,
    /// Hundredths by which a replacement must pay more than what it replaces.
    pub replace_percent: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total_bytes: 32 << 20, per_sender: 64, replace_percent: 10 }
    }
}

/// What the state says about a sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct SenderState {
    /// Nonce of its next transaction.
    pub nonce: u64,
    /// What it can spend.
    pub spendable: Amount,
}

/// Why a transaction was not taken. The sender is to blame, except for [`MempoolError::Full`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// Already waiting.
    #[error("the transaction is already waiting")]
    Known,
    /// A transaction with this nonce is in the chain already.
    #[error("nonce {got} was used already, the next one is {expected}")]
    NonceUsed {
        /// In the transaction.
        got: u64,
        /// Next of the account.
        expected: u64,
    },
    /// Too far ahead of the account's next nonce.
    #[error("nonce {got} is too far ahead, it must be below {limit}")]
    NonceAhead {
        /// In the transaction.
        got: u64,
        /// First nonce that is too far.
        limit: u64,
    },
    /// The sender cannot pay the fee.
    #[error("the account can spend {spendable} units, the fee is {fee}")]
    CannotPay {
        /// What there is.
        spendable: u64,
        /// What is needed.
        fee: u64,
    },
    /// Another transaction with this nonce waits and pays nearly as much.
    #[error("a transaction with this nonce waits already; a replacement must pay at least {least} units, not {got}")]
    Underpriced {
        /// Offered.
        got: u64,
        /// Needed.
        least: u64,
    },
    /// The pool is full of transactions that pay more.
    #[error("the mempool is full and all waiting transactions pay more")]
    Full,
}

#[derive(Clone, Debug)]
struct Entry {
    transaction: Verified<SignedTransaction>,
    id: Hash32,
    bytes: usize,
    /// What it takes from its sender; none when that is more than there can be.
    cost: Option<Amount>,
}

impl Entry {
    /// Milli-units a byte: an integer, so that the order is the same everywhere.
    fn rate(&self) -> u64 {
        rate(self.transaction.message.fee, self.bytes)
    }
}

fn rate(fee: Amount, bytes: usize) -> u64 {
    u64::try_from(u128::from(fee.0) * 1000 / bytes.max(1) as u128).unwrap_or(u64::MAX)
}

/// How much a transaction is worth keeping: whether a block can carry it, then what it pays.
type Worth = (bool, u64);

/// The last transaction of a sender, by what it is worth: only the last can go without stranding others.
type Tail = (Worth, AccountId, u64);

/// One sender: the state that was last heard of it, and what waits, by nonce.
#[derive(Clone, Debug, Default)]
struct Sender {
    state: SenderState,
    waiting: BTreeMap<u64, Entry>,
}

impl Sender {
    /// What the transaction of a nonce is worth, `new` being one that is not there yet or replaces another.
    fn worth(&self, nonce: u64, new: Option<&Entry>) -> Option<Worth> {
        let entry = |n: &u64| new.filter(|_| *n == nonce).or_else(|| self.waiting.get(n));
        let rate = entry(&nonce)?.rate();
        let carried =
            (self.state.nonce..=nonce).try_fold(self.state.spendable, |left, n| left.checked_sub(entry(&n)?.cost?));
        Some((carried.is_some() && self.state.nonce <= nonce, rate))
    }

    fn tail(&self, account: &AccountId) -> Option<Tail> {
        let nonce = *self.waiting.last_key_value()?.0;
        Some((self.worth(nonce, None)?, *account, nonce))
    }

    /// What would be the last transaction without those from `nonce` on.
    fn tail_before(&self, account: &AccountId, nonce: u64) -> Option<Tail> {
        let before = *self.waiting.range(..nonce).next_back()?.0;
        Some((self.worth(before, None)?, *account, before))
    }
}

/// The waiting transactions.
#[derive(Debug)]
pub struct Mempool {
    limits: Limits,
    senders: BTreeMap<AccountId, Sender>,
    /// Of each sender.
    tails: BTreeSet<Tail>,
    ids: BTreeMap<Hash32, (AccountId, u64)>,
    bytes: usize,
}

impl Mempool {
    /// An empty mempool.
    pub fn new(limits: Limits) -> Self {
        Self { limits, senders: BTreeMap::new(), tails: BTreeSet::new(), ids: BTreeMap::new(), bytes: 0 }
    }

    /// How many transactions wait.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Encoded bytes of all that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A waiting transaction by its id.
    pub fn get(&self, id: &Hash32) -> Option<&Verified<SignedTransaction>> {
        let (sender, nonce) = self.ids.get(id)?;
        self.entry(sender, *nonce).map(|e| &e.transaction)
    }

    /// All that wait, with their ids: by sender, each sender's in nonce order.
    pub fn iter(&self) -> impl Iterator<Item = (Hash32, &Verified<SignedTransaction>)> {
        self.senders.values().flat_map(|s| s.waiting.values()).map(|e| (e.id, &e.transaction))
    }

    /// What waits of one sender, in nonce order.
    pub fn of_sender(&self, sender: &AccountId) -> impl Iterator<Item = (Hash32, &Verified<SignedTransaction>)> {
        self.senders.get(sender).into_iter().flat_map(|s| s.waiting.values()).map(|e| (e.id, &e.transaction))
    }

    fn entry(&self, sender: &AccountId, nonce: u64) -> Option<&Entry> {
        self.senders.get(sender)?.waiting.get(&nonce)
    }

    /// The nonce that a new transaction of this sender should carry, given its nonce in the state.
    pub fn next_nonce(&self, sender: &AccountId, state_nonce: u64) -> u64 {
        // One more than can wait; the last nonce there is has none behind it.
        let last = state_nonce.saturating_add(self.limits.per_sender as u64);
        (state_nonce..=last).find(|nonce| self.entry(sender, *nonce).is_none()).unwrap_or(last)
    }

    /// Takes a transaction.
    ///
    /// # Errors
    /// [`MempoolError`]; the mempool is then as before.
    pub fn insert(
        &mut self,
        transaction: Verified<SignedTransaction>,
        sender: SenderState,
    ) -> Result<Hash32, MempoolError> {
        let id = transaction.message.id();
        let bytes = codec::encode(&*transaction).len();
        self.check(&transaction, id, sender)?;
        let cost = cost(&transaction.message);
        let entry = Entry { transaction, id, bytes, cost };
        let (account, nonce) = (entry.transaction.message.sender, entry.transaction.message.nonce);
        self.change(&account, |s| s.state = sender);
        self.make_room(&entry, sender)?;
        self.remove(&account, nonce);
        self.bytes += bytes;
        self.ids.insert(id, (account, nonce));
        self.change(&account, |s| {
            s.state = sender;
            s.waiting.insert(nonce, entry);
        });
        Ok(id)
    }

    fn check(&self, transaction: &SignedTransaction, id: Hash32, sender: SenderState) -> Result<(), MempoolError> {
        let t = &transaction.message;
        if self.ids.contains_key(&id) {
            return Err(MempoolError::Known);
        }
        if t.nonce < sender.nonce {
            return Err(MempoolError::NonceUsed { got: t.nonce, expected: sender.nonce });
        }
        let limit = sender.nonce.saturating_add(self.limits.per_sender as u64);
        if t.nonce >= limit {
            return Err(MempoolError::NonceAhead { got: t.nonce, limit });
        }
        if t.fee > sender.spendable {
            return Err(MempoolError::CannotPay { spendable: sender.spendable.0, fee: t.fee.0 });
        }
        if let Some(old) = self.entry(&t.sender, t.nonce) {
            let percent = u128::from(self.limits.replace_percent) + 100;
            let raise = u128::from(old.transaction.message.fee.0).saturating_mul(percent);
            let least = raise.div_ceil(100);
            if u128::from(t.fee.0) < least {
                let least = u64::try_from(least).unwrap_or(u64::MAX);
                return Err(MempoolError::Underpriced { got: t.fee.0, least });
            }
        }
        Ok(())
    }

    /// Drops the last transactions of senders, least worth first, until the new one fits, but never for one that is worth
    /// less.
    fn make_room(&mut self, new: &Entry, state: SenderState) -> Result<(), MempoolError> {
        let (sender, nonce) = (new.transaction.message.sender, new.transaction.message.nonce);
        let replaced = self.entry(&sender, nonce).map_or(0, |e| e.bytes);
        let mut missing = (self.bytes + new.bytes).saturating_sub(self.limits.total_bytes + replaced);
        if missing == 0 {
            return Ok(());
        }
        let lone = Sender { state, ..Sender::default() };
        let worth = self.senders.get(&sender).unwrap_or(&lone).worth(nonce, Some(new)).unwrap_or_default();
        let mut tails = self.tails.iter().filter(|(_, account, _)| *account != sender).copied().peekable();
        // Tails that show when those behind them go.
        let mut bared: BTreeSet<Tail> = BTreeSet::new();
        let mut victims = Vec::new();
        while missing > 0 {
            let next = match (tails.peek(), bared.first()) {
                (Some(tail), bare) if bare.is_none_or(|bare| tail < bare) => tails.next(),
                _ => bared.pop_first(),
            };
            let Some((_, account, nonce)) = next.filter(|(least, ..)| *least < worth) else {
                return Err(MempoolError::Full);
            };
            missing = missing.saturating_sub(self.entry(&account, nonce).map_or(0, |e| e.bytes));
            victims.push((account, nonce));
            bared.extend(self.senders.get(&account).and_then(|s| s.tail_before(&account, nonce)));
        }
        victims.iter().for_each(|(account, nonce)| self.remove(account, *nonce));
        Ok(())
    }

    /// Changes what is known of a sender, and what its last transaction is worth with it.
    fn change<R>(&mut self, account: &AccountId, change: impl FnOnce(&mut Sender) -> R) -> R {
        let sender = self.senders.entry(*account).or_default();
        if let Some(tail) = sender.tail(account) {
            self.tails.remove(&tail);
        }
        let result = change(sender);
        match sender.tail(account) {
            Some(tail) => {
                self.tails.insert(tail);
            }
            None => {
                self.senders.remove(account);
            }
        }
        result
    }

    fn remove(&mut self, account: &AccountId, nonce: u64) {
        if let Some(entry) = self.change(account, |s| s.waiting.remove(&nonce)) {
            self.bytes -= entry.bytes;
            self.ids.remove(&entry.id);
        }
    }

    /// Transactions for a block: best payers first, each sender's in nonce order without gaps.
    pub fn select(
        &self,
        most_bytes: usize,
        most_count: usize,
        state: impl Fn(&AccountId) -> SenderState,
    ) -> Vec<Verified<SignedTransaction>> {
        let mut chosen = Vec::new();
        let mut bytes = 0;
        let mut heads: BTreeSet<(u64, AccountId, u64)> = BTreeSet::new();
        for (account, sender) in &self.senders {
            let next = state(account).nonce;
            heads.extend(sender.waiting.get(&next).map(|e| (e.rate(), *account, next)));
        }
        while let Some((_, account, nonce)) = heads.pop_last() {
            let Some(entry) = self.entry(&account, nonce) else { continue };
            if bytes + entry.bytes > most_bytes || chosen.len() == most_count {
                continue;
            }
            bytes += entry.bytes;
            chosen.push(entry.transaction.clone());
            let following = nonce.checked_add(1).and_then(|n| Some((n, self.entry(&account, n)?)));
            heads.extend(following.map(|(n, e)| (e.rate(), account, n)));
        }
        chosen
    }

    /// Drops what the head's state made stale: call after the head moved, whichever way.
    pub fn prune(&mut self, state: impl Fn(&AccountId) -> SenderState) {
        let accounts: Vec<AccountId> = self.senders.keys().copied().collect();
        for account in accounts {
            let now = state(&account);
            let stale = self.change(&account, |s| {
                s.state = now;
                let is_stale =
                    |nonce: &u64, e: &mut Entry| *nonce < now.nonce || e.transaction.message.fee > now.spendable;
                s.waiting.extract_if(.., is_stale).map(|(_, e)| e).collect::<Vec<_>>()
            });
            for entry in stale {
                self.bytes -= entry.bytes;
                self.ids.remove(&entry.id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
