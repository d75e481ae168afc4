//! Mempool of a podl node as a pure state machine: transactions wait here, sorted by what they pay, until a block
//! carries them.
//!
//! Bounded in bytes, in transactions of one sender and in the gap to the sender's next nonce, so that a flood costs
//! the flooder its own places and nobody else's.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::codec;
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
    /// Least fee for each encoded byte (the chain's rule).
    pub fee_per_byte: Amount,
}

impl Limits {
    /// Limits for a chain whose least fee is `fee_per_byte`.
    pub fn new(fee_per_byte: Amount) -> Self {
        Self { total_bytes: 32 << 20, per_sender: 64, replace_percent: 10, fee_per_byte }
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
    /// Pays less than the chain's least fee.
    #[error("the fee is {got} units, at least {least} are needed for {bytes} bytes")]
    FeeTooLow {
        /// Offered.
        got: u64,
        /// Needed.
        least: u64,
        /// Encoded size.
        bytes: usize,
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

/// The waiting transactions.
#[derive(Debug)]
pub struct Mempool {
    limits: Limits,
    senders: BTreeMap<AccountId, BTreeMap<u64, Entry>>,
    ids: BTreeMap<Hash32, (AccountId, u64)>,
    bytes: usize,
}

impl Mempool {
    /// An empty mempool.
    pub fn new(limits: Limits) -> Self {
        Self { limits, senders: BTreeMap::new(), ids: BTreeMap::new(), bytes: 0 }
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
        self.senders.get(sender)?.get(nonce).map(|e| &e.transaction)
    }

    /// All that wait, with their ids: by sender, each sender's in nonce order.
    pub fn iter(&self) -> impl Iterator<Item = (Hash32, &Verified<SignedTransaction>)> {
        self.senders.values().flat_map(BTreeMap::values).map(|e| (e.id, &e.transaction))
    }

    /// What waits of one sender, in nonce order.
    pub fn of_sender(&self, sender: &AccountId) -> impl Iterator<Item = (Hash32, &Verified<SignedTransaction>)> {
        self.senders.get(sender).into_iter().flat_map(BTreeMap::values).map(|e| (e.id, &e.transaction))
    }

    /// The nonce that a new transaction of this sender should carry, given its nonce in the state.
    pub fn next_nonce(&self, sender: &AccountId, state_nonce: u64) -> u64 {
        let waiting = self.senders.get(sender);
        (state_nonce..).find(|n| !waiting.is_some_and(|w| w.contains_key(n))).unwrap_or(state_nonce)
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
        self.check(&transaction, id, bytes, sender)?;
        let entry = Entry { transaction, id, bytes };
        self.make_room(&entry)?;
        let (account, nonce) = (entry.transaction.message.sender, entry.transaction.message.nonce);
        self.remove(&account, nonce);
        self.bytes += bytes;
        self.ids.insert(id, (account, nonce));
        self.senders.entry(account).or_default().insert(nonce, entry);
        Ok(id)
    }

    fn check(
        &self,
        transaction: &SignedTransaction,
        id: Hash32,
        bytes: usize,
        sender: SenderState,
    ) -> Result<(), MempoolError> {
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
        let least = self.limits.fee_per_byte.0.saturating_mul(bytes as u64);
        if t.fee.0 < least {
            return Err(MempoolError::FeeTooLow { got: t.fee.0, least, bytes });
        }
        if t.fee > sender.spendable {
            return Err(MempoolError::CannotPay { spendable: sender.spendable.0, fee: t.fee.0 });
        }
        if let Some(old) = self.senders.get(&t.sender).and_then(|w| w.get(&t.nonce)) {
            let raise = u128::from(old.transaction.message.fee.0) * u128::from(100 + self.limits.replace_percent);
            let least = u64::try_from(raise.div_ceil(100)).unwrap_or(u64::MAX);
            if t.fee.0 < least {
                return Err(MempoolError::Underpriced { got: t.fee.0, least });
            }
        }
        Ok(())
    }

    /// Drops the cheapest senders' last transactions until the new one fits, but never for a cheaper one.
    fn make_room(&mut self, new: &Entry) -> Result<(), MempoolError> {
        let sender = new.transaction.message.sender;
        let replaced = self.senders.get(&sender).and_then(|w| w.get(&new.transaction.message.nonce));
        let mut missing =
            (self.bytes + new.bytes).saturating_sub(self.limits.total_bytes + replaced.map_or(0, |e| e.bytes));
        if missing == 0 {
            return Ok(());
        }
        // Only the last nonce of a sender can go without stranding others.
        let mut victims = Vec::new();
        let mut tails: BTreeSet<(u64, AccountId, u64)> = self
            .senders
            .iter()
            .filter(|(account, _)| **account != sender)
            .filter_map(|(account, w)| w.last_key_value().map(|(nonce, e)| (e.rate(), *account, *nonce)))
            .collect();
        while missing > 0 {
            let Some((cheapest, account, nonce)) = tails.pop_first().filter(|(r, ..)| *r < new.rate()) else {
                return Err(MempoolError::Full);
            };
            let waiting = &self.senders[&account];
            missing = missing.saturating_sub(waiting[&nonce].bytes);
            victims.push((account, nonce));
            debug_assert!(cheapest < new.rate());
            if let Some((next, e)) = waiting.range(..nonce).next_back() {
                tails.insert((e.rate(), account, *next));
            }
        }
        victims.iter().for_each(|(account, nonce)| self.remove(account, *nonce));
        Ok(())
    }

    fn remove(&mut self, account: &AccountId, nonce: u64) {
        let Some(waiting) = self.senders.get_mut(account) else { return };
        if let Some(entry) = waiting.remove(&nonce) {
            self.bytes -= entry.bytes;
            self.ids.remove(&entry.id);
        }
        if waiting.is_empty() {
            self.senders.remove(account);
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
        for (account, waiting) in &self.senders {
            let next = state(account).nonce;
            heads.extend(waiting.get(&next).map(|e| (e.rate(), *account, next)));
        }
        while let Some((_, account, nonce)) = heads.pop_last() {
            let entry = &self.senders[&account][&nonce];
            if bytes + entry.bytes > most_bytes || chosen.len() == most_count {
                continue;
            }
            bytes += entry.bytes;
            chosen.push(entry.transaction.clone());
            let following = nonce.checked_add(1).and_then(|n| Some((n, self.senders[&account].get(&n)?)));
            heads.extend(following.map(|(n, e)| (e.rate(), account, n)));
        }
        chosen
    }

    /// Drops what the head's state made stale: call after the head moved, whichever way.
    pub fn prune(&mut self, state: impl Fn(&AccountId) -> SenderState) {
        let stale: Vec<(AccountId, u64)> = self
            .senders
            .iter()
            .flat_map(|(account, waiting)| {
                let now = state(account);
                let gone =
                    move |(nonce, e): &(&u64, &Entry)| **nonce < now.nonce || e.transaction.message.fee > now.spendable;
                waiting.iter().filter(gone).map(|(nonce, _)| (*account, *nonce)).collect::<Vec<_>>()
            })
            .collect();
        stale.iter().for_each(|(account, nonce)| self.remove(account, *nonce));
    }
}

#[cfg(test)]
mod tests;
