//! The tree under versions, siblings and folding; drafts under the supply check.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_chain_spec::{AccountId, Amount, ChainSpec};
use proptest::prelude::*;

use super::*;
use crate::codec;

fn spec() -> ChainSpec {
    ChainSpec::load("dev").unwrap()
}

fn genesis_store() -> MemoryStore {
    let mut store = MemoryStore::default();
    store.apply(&genesis_delta(&spec()).unwrap());
    store
}

fn account(id: u8) -> AccountId {
    AccountId([id; 32])
}

/// A child that moves `amount` from a rich genesis account to `to`.
fn child(view: &StateView<'_>, to: u8, amount: u64) -> StateDelta {
    let mut draft = Draft::new(view, 0).unwrap();
    let rich = spec().genesis.accounts[0].account;
    let mut payer = draft.account(&rich).unwrap();
    payer.debit(Amount(amount)).unwrap();
    draft.put_account(rich, payer);
    draft.credit(&account(to), Amount(amount)).unwrap();
    draft.finish().unwrap().0
}

#[test]
fn genesis_adds_up_and_is_a_pure_function_of_the_spec() {
    let store = genesis_store();
    assert_eq!(check_supply(store.values()).unwrap(), spec().genesis_supply());
    assert_eq!(genesis_delta(&spec()).unwrap(), genesis_delta(&spec()).unwrap());
    let view = StateView::new(&store, 0, vec![]);
    assert_eq!(view.meta().unwrap().finalised, genesis_checkpoint(&spec()));
}

#[test]
fn siblings_keep_separate_trees_and_only_one_reaches_the_store() {
    let mut store = genesis_store();
    let (a, b) = {
        let view = StateView::new(&store, 0, vec![]);
        (Arc::new(child(&view, 1, 5)), Arc::new(child(&view, 2, 5)))
    };
    assert_ne!(a.root, b.root);
    assert!(a.nodes.keys().any(|key| b.nodes.contains_key(key)), "siblings write the same node keys");
    let grandchild = {
        let view_a = StateView::new(&store, 1, vec![a.clone()]);
        let view_b = StateView::new(&store, 1, vec![b.clone()]);
        assert_eq!(view_a.account(&account(1)).unwrap().balance, Amount(5));
        assert!(view_b.account(&account(1)).unwrap().is_empty());
        // The same change in the other order of blocks ends in the same leaves but for the heights.
        Arc::new(child(&view_b, 1, 5))
    };
    let through_deltas = StateView::new(&store, 2, vec![grandchild.clone(), b.clone()]).account(&account(1)).unwrap();
    store.apply(&b);
    store.apply(&grandchild);
    let view = StateView::new(&store, 2, vec![]);
    assert_eq!(view.account(&account(1)).unwrap(), through_deltas);
    // Stale deltas over a store that has folded them already read the same.
    let view = StateView::new(&store, 2, vec![grandchild, b]);
    assert_eq!(view.account(&account(1)).unwrap(), through_deltas);
    check_supply(store.values()).unwrap();
}

#[test]
fn proofs_hold_for_values_and_for_absence_and_for_nothing_else() {
    let store = genesis_store();
    let delta = Arc::new(child(&StateView::new(&store, 0, vec![]), 1, 5));
    let view = StateView::new(&store, 1, vec![delta.clone()]);
    let (here, absent) = (StateKey::Account(account(1)), StateKey::Account(account(9)));
    let (value, proof) = view.prove(here).unwrap();
    let value = value.unwrap();
    let proof = StateProof::from_bytes(&proof.to_bytes()).unwrap();
    verify_proof(delta.root, here, Some(&value), &proof).unwrap();
    assert!(verify_proof(delta.root, here, None, &proof).is_err());
    assert!(verify_proof(delta.root, absent, Some(&value), &proof).is_err());
    assert!(verify_proof(delta.root, here, Some(&codec::encode(&Account::default())), &proof).is_err());
    assert!(verify_proof(podl_chain_spec::Hash32([1; 32]), here, Some(&value), &proof).is_err());
    let (none, proof) = view.prove(absent).unwrap();
    assert_eq!(none, None);
    verify_proof(delta.root, absent, None, &proof).unwrap();
    assert!(verify_proof(delta.root, here, None, &proof).is_err());
    assert!(StateProof::from_bytes(&[7; 40]).is_err());
}

#[test]
fn money_that_appears_or_vanishes_is_an_error() {
    let store = genesis_store();
    let view = StateView::new(&store, 0, vec![]);
    let mut draft = Draft::new(&view, 0).unwrap();
    draft.credit(&account(1), Amount(5)).unwrap();
    assert!(matches!(draft.finish(), Err(StateError::Supply { .. })));
    let mut draft = Draft::new(&view, 0).unwrap();
    draft.credit(&account(1), Amount(5)).unwrap();
    draft.mint(Amount(5)).unwrap();
    let (_, meta) = draft.finish().unwrap();
    assert_eq!(meta.supply.0, spec().genesis_supply().0 + 5);
    let mut draft = Draft::new(&view, 0).unwrap();
    draft.burn(Amount(5)).unwrap();
    assert!(matches!(draft.finish(), Err(StateError::Supply { .. })));
    let mut draft = Draft::new(&view, 0).unwrap();
    draft.meta.seats.current.pop();
    assert!(matches!(draft.finish(), Err(StateError::Supply { .. })));
}

#[test]
fn a_damaged_value_is_an_error_that_names_its_key() {
    let mut store = genesis_store();
    let rich = StateKey::Account(spec().genesis.accounts[0].account).to_bytes();
    let damage = BTreeMap::from([(rich.clone(), Some(vec![0xff; 3]))]);
    store.apply(&StateDelta { values: damage, ..StateDelta::default() });
    let view = StateView::new(&store, 0, vec![]);
    let error = view.account(&spec().genesis.accounts[0].account).unwrap_err();
    assert!(matches!(error, StateError::Corrupt { key, .. } if key == hex::encode(rich)));
}

/// Changes of one block: account, and its new balance (0 removes it).
type Changes = Vec<(u8, u64)>;

/// Applies blocks of changes to a tree that started empty, each block over deltas or over a folded store.
fn grow(blocks: &[Changes], fold: bool) -> (podl_chain_spec::Hash32, MemoryStore) {
    let (mut store, mut deltas) = (MemoryStore::default(), Vec::<Arc<StateDelta>>::new());
    let mut root = None;
    for (version, changes) in (0u64..).zip(blocks) {
        let values = changes.iter().map(|(id, balance)| {
            let entry = Account { balance: Amount(*balance), ..Account::default() };
            (StateKey::Account(account(*id)).to_bytes(), (*balance > 0).then(|| codec::encode(&entry)))
        });
        let values: BTreeMap<_, _> = values.collect();
        let view = StateView::new(&store, version.saturating_sub(1), deltas.clone());
        let update = tree::update(&view, version, &values).unwrap();
        let delta = StateDelta { height: version, root: update.root, values, nodes: update.nodes, stale: update.stale };
        root = Some(update.root);
        if fold { store.apply(&delta) } else { deltas.insert(0, Arc::new(delta)) }
    }
    deltas.iter().rev().for_each(|delta| store.apply(delta));
    (root.unwrap(), store)
}

proptest! {
    /// The root depends on what the state holds and not on how it came about, and folding early or late is the same.
    #[test]
    fn root_is_a_function_of_the_contents(
        blocks in prop::collection::vec(prop::collection::vec((0u8..40, 0u64..4), 0..20), 1..8),
    ) {
        // As in the chain, every block changes something: jmt keeps the root of a block that does not.
        let blocks: Vec<Changes> = (1..).zip(blocks).map(|(i, mut b)| { b.push((200, i)); b }).collect();
        let (root, store) = grow(&blocks, true);
        let (late_root, late_store) = grow(&blocks, false);
        prop_assert_eq!(root, late_root);
        prop_assert_eq!(&store, &late_store);
        let contents: BTreeMap<u8, u64> = blocks.iter().flatten().copied().collect();
        let at_once: Changes = contents.into_iter().filter(|(_, balance)| *balance > 0).collect();
        let (fresh_root, fresh_store) = grow(&[at_once], true);
        prop_assert_eq!(root, fresh_root);
        prop_assert!(store.values().eq(fresh_store.values()));
        // Nothing but the one tree is left in the store.
        prop_assert_eq!(store.node_count(), fresh_store.node_count());
    }
}

#[test]
fn roots_and_encodings_never_change() {
    // Golden: a change here forks every chain. Three accounts, one with locks, and what they encode to.
    let locked = Account { balance: Amount(300), nonce: 2, locked: vec![(9, Amount(1)), (12, Amount(70_000))] };
    assert_eq!(hex::encode(codec::encode(&locked)), "ac02020209010cf0a204");
    let (root, store) = grow(&[vec![(1, 5), (2, 300)], vec![(3, 7), (1, 0)], vec![(1, 9)]], true);
    assert_eq!(root.to_string(), "d727e063dc93f09719beca16b1f8b4baa985249882a70cacd13e0827855c1f62");
    assert_eq!((store.values().count(), store.node_count()), (3, 4));
}
