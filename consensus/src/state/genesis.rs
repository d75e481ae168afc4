//! The first state of a chain.

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Amount, ChainSpec};

use super::draft::first_delta;
use super::{Account, Checkpoint, MemoryStore, Meta, Seat, SeatSets, StateDelta, StateError, StateKey, StateView};
use crate::codec;

/// The genesis block as a checkpoint. It has no header: its name is the hash of the chain specification.
pub fn genesis_checkpoint(spec: &ChainSpec) -> Checkpoint {
    Checkpoint { height: 0, block: spec.genesis_hash() }
}

fn genesis_meta(spec: &ChainSpec) -> Meta {
    let first = genesis_checkpoint(spec);
    let seat = |account: &AccountId| Seat { account: *account, bond: spec.seats.seat_bond, since: 0, last_vote: 0 };
    let current: Vec<Seat> = spec.genesis.seats.iter().map(seat).collect();
    let seats = SeatSets { current, previous: spec.genesis.seats.clone() };
    Meta {
        height: 0,
        time_ms: spec.genesis.time_ms,
        justified: first,
        finalised: first,
        seats_log: vec![(0, seats.clone())],
        seats,
        justified_log: vec![(0, 0)],
        winners: Vec::new(),
        supply: spec.genesis_supply(),
        minted: Amount::ZERO,
        burned: Amount::ZERO,
    }
}

/// Everything in the first state, for an empty store.
///
/// # Errors
/// [`StateError::Tree`], which an empty store does not cause.
pub fn genesis_delta(spec: &ChainSpec) -> Result<StateDelta, StateError> {
    let balances: BTreeMap<AccountId, Amount> =
        spec.genesis.accounts.iter().filter(|a| a.balance > Amount::ZERO).map(|a| (a.account, a.balance)).collect();
    let account = |balance| codec::encode(&Account { balance, ..Account::default() });
    let accounts = balances.into_iter().map(|(id, balance)| (StateKey::Account(id), account(balance)));
    let meta = (StateKey::Meta, codec::encode(&genesis_meta(spec)));
    let store = MemoryStore::default();
    first_delta(&StateView::new(&store, 0, Vec::new()), accounts.chain([meta]))
}
