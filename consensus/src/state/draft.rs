//! Writing the next state: typed changes over a view, and the supply invariant over them.

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Amount};
use serde::Serialize;

use super::view::decode_value;
use super::{Account, Meta, MoneyError, StateDelta, StateError, StateKey, StateView, TaskSpec, TaskStatus, tree};
use crate::codec;
use crate::types::{Height, TaskId};

/// The state of a block in the making. Reads see what was put before; nothing is written until [`Draft::finish`].
pub struct Draft<'a> {
    view: &'a StateView<'a>,
    height: Height,
    before: Meta,
    /// Consensus part; changed in place.
    pub meta: Meta,
    accounts: BTreeMap<AccountId, Account>,
    specs: BTreeMap<TaskId, TaskSpec>,
    statuses: BTreeMap<TaskId, TaskStatus>,
    live: Option<Vec<TaskId>>,
}

/// Money in the bonds of the seats.
fn bonds(meta: &Meta) -> u128 {
    meta.seats.current.iter().map(|seat| u128::from(seat.bond.0)).sum()
}

/// Money in the bytes of one entry of the state.
fn money_in(key: StateKey, bytes: &[u8]) -> Result<u128, StateError> {
    let raw = key.to_bytes();
    Ok(match key {
        StateKey::Account(_) => decode_value::<Account>(&raw, bytes)?.total()?.0.into(),
        StateKey::TaskStatus(_) => {
            decode_value::<TaskStatus>(&raw, bytes)?.held().ok_or(MoneyError::Overflow)?.0.into()
        }
        StateKey::Meta => bonds(&decode_value(&raw, bytes)?),
        StateKey::LiveTasks | StateKey::TaskSpec(_) => 0,
    })
}

/// Sums every entry of a whole state and compares with the supply that it records. Slow: for audits, not for blocks,
/// which check the entries they change.
///
/// # Errors
/// [`StateError::Supply`] when the sums differ, [`StateError::Corrupt`] for an entry that is none.
pub fn check_supply<'a>(entries: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Amount, StateError> {
    let (mut sum, mut meta) = (0u128, None::<Meta>);
    for (raw, bytes) in entries {
        let unknown = || StateError::Corrupt { key: hex::encode(raw), reason: "not a key of the state".into() };
        let key = StateKey::parse(raw).ok_or_else(unknown)?;
        sum += money_in(key, bytes)?;
        if key == StateKey::Meta {
            meta = Some(decode_value(raw, bytes)?);
        }
    }
    let none = || StateError::Corrupt { key: hex::encode(StateKey::Meta.to_bytes()), reason: "there is none".into() };
    let meta = meta.ok_or_else(none)?;
    if sum != u128::from(meta.supply.0) {
        let (minted, burned) = (meta.minted, meta.burned);
        return Err(StateError::Supply { before: meta.supply.0.into(), after: sum, minted, burned });
    }
    Ok(meta.supply)
}

impl<'a> Draft<'a> {
    /// A draft of the state of a child of `view`'s block at `time_ms`.
    ///
    /// # Errors
    /// [`StateError`] when the parent's state cannot be read.
    pub fn new(view: &'a StateView<'a>, time_ms: u64) -> Result<Self, StateError> {
        let before = view.meta()?;
        let height = view.height() + 1;
        let meta = Meta { height, time_ms, ..before.clone() };
        let empty = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { view, height, before, meta, accounts: empty.0, specs: empty.1, statuses: empty.2, live: None })
    }

    /// Height of the block in the making.
    pub fn height(&self) -> Height {
        self.height
    }

    /// State of the parent.
    pub fn parent(&self) -> &StateView<'a> {
        self.view
    }

    /// An account with everything folded in that is due by now. Changes count once they are put back.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn account(&self, id: &AccountId) -> Result<Account, StateError> {
        let mut account = match self.accounts.get(id) {
            Some(account) => account.clone(),
            None => self.view.account(id)?,
        };
        account.fold_due(self.height)?;
        Ok(account)
    }

    /// Puts an account back.
    pub fn put_account(&mut self, id: AccountId, account: Account) {
        self.accounts.insert(id, account);
    }

    /// Adds to an account's balance.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn credit(&mut self, id: &AccountId, amount: Amount) -> Result<(), StateError> {
        if amount == Amount::ZERO {
            return Ok(());
        }
        let mut account = self.account(id)?;
        account.credit(amount)?;
        self.put_account(*id, account);
        Ok(())
    }

    /// Adds to what an account has locked until a height.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn lock(&mut self, id: &AccountId, until: Height, amount: Amount) -> Result<(), StateError> {
        let mut account = self.account(id)?;
        account.lock(until, amount)?;
        self.put_account(*id, account);
        Ok(())
    }

    /// The static part of a task.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn task_spec(&self, id: &TaskId) -> Result<Option<TaskSpec>, StateError> {
        match self.specs.get(id) {
            Some(spec) => Ok(Some(spec.clone())),
            None => self.view.task_spec(id),
        }
    }

    /// The changing part of a task.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn task_status(&self, id: &TaskId) -> Result<Option<TaskStatus>, StateError> {
        match self.statuses.get(id) {
            Some(status) => Ok(Some(status.clone())),
            None => self.view.task_status(id),
        }
    }

    /// Sorted ids of the live tasks.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn live_tasks(&self) -> Result<Vec<TaskId>, StateError> {
        match &self.live {
            Some(live) => Ok(live.clone()),
            None => self.view.live_tasks(),
        }
    }

    /// Adds a task.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn insert_task(&mut self, id: TaskId, spec: TaskSpec, status: TaskStatus) -> Result<(), StateError> {
        self.specs.insert(id, spec);
        self.put_status(id, status)
    }

    /// Puts the changing part of a task back, and keeps the index of live tasks in step.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn put_status(&mut self, id: TaskId, status: TaskStatus) -> Result<(), StateError> {
        let mut live = self.live_tasks()?;
        match (live.binary_search(&id), status.phase.is_live()) {
            (Err(place), true) => live.insert(place, id),
            (Ok(place), false) => drop(live.remove(place)),
            _ => (),
        }
        self.live = Some(live);
        self.statuses.insert(id, status);
        Ok(())
    }

    /// Accounts for money that comes into being; the caller gives it to somebody.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn mint(&mut self, amount: Amount) -> Result<(), MoneyError> {
        self.meta.supply = self.meta.supply.checked_add(amount).ok_or(MoneyError::Overflow)?;
        self.meta.minted = self.meta.minted.checked_add(amount).ok_or(MoneyError::Overflow)?;
        Ok(())
    }

    /// Accounts for money that ceases to be; the caller took it from somebody.
    ///
    /// # Errors
    /// [`MoneyError`].
    pub fn burn(&mut self, amount: Amount) -> Result<(), MoneyError> {
        let short = MoneyError::Insufficient { got: self.meta.supply, need: amount };
        self.meta.supply = self.meta.supply.checked_sub(amount).ok_or(short)?;
        self.meta.burned = self.meta.burned.checked_add(amount).ok_or(MoneyError::Overflow)?;
        Ok(())
    }

    /// The new state as a delta over the parent's, with its root.
    ///
    /// # Errors
    /// [`StateError`], among them [`StateError::Supply`] when the changes do not add up.
    pub fn finish(self) -> Result<(StateDelta, Meta), StateError> {
        let values = self.changes()?;
        self.check_supply(&values)?;
        let update = tree::update(self.view, self.height, &values)?;
        let (root, nodes, stale) = (update.root, update.nodes, update.stale);
        Ok((StateDelta { height: self.height, root, values, nodes, stale }, self.meta))
    }

    /// Entries that differ from the parent's state.
    fn changes(&self) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>, StateError> {
        let mut values = BTreeMap::new();
        let mut put = |key: StateKey, value: Option<Vec<u8>>| -> Result<(), StateError> {
            let key = key.to_bytes();
            if self.view.value(&key)? != value {
                values.insert(key, value);
            }
            Ok(())
        };
        fn bytes<T: Serialize>(value: &T) -> Option<Vec<u8>> {
            Some(codec::encode(value))
        }
        put(StateKey::Meta, bytes(&self.meta))?;
        if let Some(live) = &self.live {
            put(StateKey::LiveTasks, (!live.is_empty()).then(|| codec::encode(live)))?;
        }
        for (id, account) in &self.accounts {
            put(StateKey::Account(*id), (!account.is_empty()).then(|| codec::encode(account)))?;
        }
        for (id, spec) in &self.specs {
            put(StateKey::TaskSpec(*id), bytes(spec))?;
        }
        for (id, status) in &self.statuses {
            put(StateKey::TaskStatus(*id), bytes(status))?;
        }
        Ok(values)
    }

    fn check_supply(&self, values: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), StateError> {
        let (mut before, mut after) = (0u128, 0u128);
        for (raw, value) in values {
            let unknown = || StateError::Corrupt { key: hex::encode(raw), reason: "not a key of the state".into() };
            let key = StateKey::parse(raw).ok_or_else(unknown)?;
            if let Some(old) = self.view.value(raw)? {
                before += money_in(key, &old)?;
            }
            if let Some(new) = value {
                after += money_in(key, new)?;
            }
        }
        let difference = |now: Amount, then: Amount| now.checked_sub(then).ok_or(MoneyError::Overflow);
        let minted = difference(self.meta.minted, self.before.minted)?;
        let burned = difference(self.meta.burned, self.before.burned)?;
        let supply = u128::from(self.meta.supply.0) + u128::from(burned.0);
        let holds = after + u128::from(burned.0) == before + u128::from(minted.0)
            && supply == u128::from(self.before.supply.0) + u128::from(minted.0);
        if holds { Ok(()) } else { Err(StateError::Supply { before, after, minted, burned }) }
    }
}

/// The state of the genesis block: version 0 of the tree, to be folded into an empty store.
pub(super) fn first_delta(
    empty: &StateView<'_>,
    entries: impl IntoIterator<Item = (StateKey, Vec<u8>)>,
) -> Result<StateDelta, StateError> {
    let values: BTreeMap<_, _> = entries.into_iter().map(|(key, bytes)| (key.to_bytes(), Some(bytes))).collect();
    let update = tree::update(empty, 0, &values)?;
    Ok(StateDelta { height: 0, root: update.root, values, nodes: update.nodes, stale: update.stale })
}
