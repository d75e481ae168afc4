//! What strangers send, at every door: nothing of it reaches arithmetic, a pool or a decision unchecked.

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::interval::{ChainView, Event};
use podl_consensus::signed::{Signature, Signed};
use podl_consensus::state::Checkpoint;
use podl_consensus::testkit::{account, number_hash, signing_key, small_spec, unchecked};
use podl_consensus::types::{
    BlockHash, Closing, ClosingList, Commitment, Height, ListedClosing, Outcome, OutcomeKind, ShardKey, SignedVote,
    Vote,
};
use podl_engine::sync::Status;
use podl_engine::wire::{Gossip, IntervalMessages};
use podl_network::Verdict;

use super::Bed;

fn judged(bed: &mut Bed, gossip: impl FnOnce(&Bed) -> Gossip) -> (Verdict, bool) {
    let (gossip, peer) = (gossip(bed), bed.peer);
    let (verdict, event) = bed.core().judge(gossip, peer);
    (verdict, event.is_some())
}

const LEFT: (Verdict, bool) = (Verdict::Ignore, false);
const KEPT: (Verdict, bool) = (Verdict::Ignore, true);
const TAKEN: (Verdict, bool) = (Verdict::Accept, true);
const REFUSED: (Verdict, bool) = (Verdict::Reject, false);

/// A vote of a seat for a block that only its hash tells of.
fn vote(bed: &Bed, seat: u64, height: Height, block: BlockHash, ready: Vec<Hash32>) -> SignedVote {
    let message = Vote { height, block, justified: 0, ready, seat: account(seat) };
    Signed::new(message, &bed.h.chain.chain_hash(), &signing_key(seat))
}

#[test]
fn a_range_ends_at_the_head_whatever_numbers_ask_for_it() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let mut tip = bed.h.genesis();
    for owner in 10..14 {
        tip = bed.mine(tip, owner, vec![]);
    }
    let core = bed.core();
    let ask = |from: u64, count: u32| core.range(from, count).unwrap().iter().map(|b| b.height()).collect::<Vec<_>>();
    for (from, count) in [(u64::MAX, 1), (u64::MAX, u32::MAX), (u64::MAX - 1, 3), (5, 1), (1 << 60, 32), (2, 0), (0, 0)]
    {
        assert_eq!(ask(from, count), Vec::<u64>::new(), "from {from}, {count} blocks");
    }
    assert_eq!(ask(3, u32::MAX), [3, 4]);
    assert_eq!(ask(1, 2), [1, 2]);
}

#[test]
fn a_status_is_only_a_reason_to_ask() {
    let mut bed = Bed::new(small_spec(4, 24), Some(0));
    let genesis = bed.h.genesis();
    let far = |height| Checkpoint { height, block: Hash32([9; 32]) };
    for height in [1 << 60, u64::MAX, 1_000] {
        for n in 0..3 {
            let (peer, finalised) = (libp2p::PeerId::random(), far(if n == 0 { height } else { 0 }));
            let status = Status { chain: genesis, head: far(height), finalised };
            bed.core().on_status(peer, status).unwrap();
        }
    }
    assert!(!bed.core().is_syncing(), "nothing was verified of what they claim");
    // Whether the seat may sign is asked of its guard alone: its machine knows nothing of claims.
    let block = bed.h.idle(genesis, 0, None, bed.h.parts(genesis));
    let hash = bed.advance(block);
    for seat in 1..4 {
        let vote = bed.h.vote(&account(seat), hash, &[]);
        bed.core().drive(Event::Vote(vote)).unwrap();
    }
    let voters: Vec<AccountId> = bed.core().machine.votes_for(&hash).iter().map(|vote| vote.message.seat).collect();
    assert!(voters.contains(&account(0)), "it votes with the others");
    // Votes of a quorum for a block that is not here are another thing.
    let ahead = number_hash(5);
    for seat in 0..3 {
        let vote = vote(&bed, seat, 4, ahead, vec![]);
        assert_eq!(judged(&mut bed, |_| Gossip::Vote(vote.clone())), TAKEN);
        bed.core().drive(Event::Vote(unchecked(vote))).unwrap();
    }
    bed.core().note_voted_ahead().unwrap();
    assert!(bed.core().is_syncing());
}

#[test]
fn votes_have_their_form_at_every_door() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let (known, unknown) = (bed.mine(bed.h.genesis(), 10, vec![]), number_hash(1));
    let task = Hash32([7; 32]);
    for block in [known, unknown] {
        assert_eq!(judged(&mut bed, |bed| Gossip::Vote(vote(bed, 1, 1, block, vec![task, task]))), REFUSED);
        let mut forged = vote(&bed, 2, 1, block, vec![]);
        forged.signature = Signature([1; 64]);
        assert_eq!(judged(&mut bed, |_| Gossip::Vote(forged)), REFUSED);
        // Relayed although its block may be unknown: slow nodes must not be holes in the network.
        assert_eq!(judged(&mut bed, |bed| Gossip::Vote(vote(bed, 3, 1, block, vec![task]))), TAKEN);
        assert_eq!(judged(&mut bed, |bed| Gossip::Vote(vote(bed, 20, 1, block, vec![]))), LEFT, "no seat's");
    }
    assert_eq!(judged(&mut bed, |bed| Gossip::Vote(vote(bed, 1, u64::MAX, unknown, vec![]))), LEFT);
    // The same in an answer: the machine hears of nothing after it, and of none of its kind.
    let bad = vote(&bed, 1, 1, known, vec![task, task]);
    let messages = IntervalMessages { votes: vec![bad], ..IntervalMessages::default() };
    let peer = bed.peer;
    bed.core().take_messages(peer, messages).unwrap();
    assert!(bed.core().machine.votes_for(&known).is_empty());
}

/// A closing of a seat that lists a commitment of account 10, and one of account 11 that nobody signed if `forged`.
fn closing(bed: &Bed, parent: BlockHash, seat: u64, forged: bool) -> ListedClosing {
    let genesis = bed.h.genesis();
    let interval = bed.h.interval(genesis);
    let commitment = |owner: AccountId, id: u64| Commitment {
        parent,
        task: interval.task,
        round: interval.round,
        owner,
        id: number_hash(id),
    };
    let good = Signed::new(commitment(account(10), 1), &genesis, &signing_key(10));
    let bad = Signed { message: commitment(account(11), 2), signature: Signature([3; 64]) };
    let list = ClosingList::new([good].into_iter().chain(forged.then_some(bad)));
    let message = Closing { parent, seat: account(seat), list_root: list.root() };
    ListedClosing { closing: Signed::new(message, &genesis, &signing_key(seat)), list }
}

#[test]
fn a_list_is_verified_item_by_item_whatever_is_known_of_its_parent() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    for (parent, good) in [(bed.h.genesis(), TAKEN), (number_hash(8), KEPT)] {
        assert_eq!(judged(&mut bed, |bed| Gossip::Closing(closing(bed, parent, 1, true))), REFUSED);
        assert_eq!(judged(&mut bed, |bed| Gossip::Closing(closing(bed, parent, 1, false))), good);
        let swapped = ListedClosing { list: ClosingList::default(), ..closing(&bed, parent, 1, false) };
        assert_eq!(judged(&mut bed, |_| Gossip::Closing(swapped)), REFUSED);
        // What is held is passed on without a check, and with another signature of the same it is nothing.
        let (first, peer) = (closing(&bed, parent, 2, false), bed.peer);
        let (_, event) = bed.core().judge(Gossip::Closing(first.clone()), peer);
        bed.core().drive(event.unwrap()).unwrap();
        if good == TAKEN {
            assert_eq!(judged(&mut bed, |_| Gossip::Closing(first.clone())), (Verdict::Accept, false));
            let mut resigned = first;
            resigned.list.0[0].signature.0[0] ^= 1;
            assert_eq!(judged(&mut bed, |_| Gossip::Closing(resigned)), LEFT);
        }
        // Whoever holds no seat anywhere costs a look at a name.
        assert_eq!(judged(&mut bed, |bed| Gossip::Closing(closing(bed, parent, 20, true))), LEFT);
    }
}

#[test]
fn commitments_on_unknown_parents_are_kept_for_accounts_with_money() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let commit = |bed: &Bed, owner: u64| {
        let interval = bed.h.interval(bed.h.genesis());
        let message = Commitment {
            parent: number_hash(3),
            task: interval.task,
            round: 0,
            owner: account(owner),
            id: number_hash(4),
        };
        Signed::new(message, &bed.h.chain.chain_hash(), &signing_key(owner))
    };
    assert_eq!(judged(&mut bed, |bed| Gossip::Commitment(commit(bed, 10))), KEPT);
    assert_eq!(judged(&mut bed, |bed| Gossip::Commitment(commit(bed, 40))), LEFT);
}

#[test]
fn keys_of_live_tasks_are_passed_on_and_made_up_ones_are_not() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let genesis = bed.h.genesis();
    let (task, keys) = bed.h.task(2);
    let later = keys[1];
    let (transaction, _) = bed.h.publish(9, 0, task, keys);
    bed.mine(genesis, 10, vec![transaction]);
    let release = |key| Gossip::Key(podl_engine::wire::KeyRelease { task: Hash32::ZERO, round: 1, key });
    assert_eq!(judged(&mut bed, |_| release(later)), TAKEN);
    assert_eq!(judged(&mut bed, |_| release(ShardKey([9; 32]))), KEPT);
}

/// A bad vote and a bad closing that got into the machine all the same (no door lets them): the seat's own block leaves
/// the vote out, so that its one block on this parent is not lost.
#[test]
fn a_node_passes_its_own_block_through_the_checks_of_others_before_it_signs() {
    let mut bed = Bed::new(small_spec(4, 24), Some(0));
    let one = bed.mine(bed.h.genesis(), 10, vec![]);
    let task = Hash32([7; 32]);
    for (seat, ready) in [(1, vec![task, task]), (2, vec![]), (3, vec![])] {
        let vote = bed.h.vote(&account(seat), one, &ready);
        bed.core().drive(Event::Vote(vote)).unwrap();
    }
    let interval = bed.core().view.interval(&one).unwrap();
    let view = (0..4).find(|view| interval.fallback_producer(*view) == Some(account(0))).unwrap();
    let parent = Checkpoint { height: 1, block: one };
    bed.core().propose(parent, view, OutcomeKind::Idle, None).unwrap();
    let core = bed.core();
    let own =
        core.view.chain.blocks().find(|(_, entry)| entry.block.parent() == one).map(|(_, entry)| entry.block.clone());
    let own = own.expect("its block is in its chain");
    assert!(matches!(own.body.outcome, Outcome::Idle { key: None }));
    let voters: Vec<AccountId> = own.body.votes.iter().map(|vote| vote.message.seat).collect();
    assert!([0, 2, 3].iter().all(|seat| voters.contains(&account(*seat))) && voters.len() == 3, "{voters:?}");
    bed.h.import(own.as_ref().clone().into_inner()).expect("others take it");
}

#[test]
fn a_candidate_of_ones_own_is_signed_only_after_its_work_was_checked() {
    let mut bed = Bed::new(small_spec(4, 24), Some(10));
    let genesis = bed.h.genesis();
    let round = bed.h.commit(genesis, 10, 40);
    let closings: Vec<_> =
        (0..4).map(|seat| bed.h.closing(genesis, &account(seat), std::slice::from_ref(&round))).collect();
    let claim = |correct| podl_consensus::chain::Claim::Scored {
        closings: closings.clone(),
        opening: podl_consensus::types::Opening { correct, ..round.opening.clone() },
        key: None,
    };
    let parent = Checkpoint { height: 0, block: genesis };
    bed.hold(&round.opening.model_root);
    // A count that is not the model's: nothing is signed, so the key is still there for the true one.
    bed.core().propose_block(parent, 0, claim(41)).unwrap();
    assert!(bed.core().imports.has_own());
    assert!(bed.pump(|core| !core.imports.has_own()), "its check has ended");
    assert!(bed.core().view.chain.blocks().next().is_none());
    bed.core().propose_block(parent, 0, claim(40)).unwrap();
    assert!(bed.pump(|core| core.view.chain.blocks().next().is_some()));
}

#[test]
fn a_check_that_panics_is_this_nodes_fault_and_ends_nothing() {
    use podl_consensus::testkit::fake_artefact;
    let mut bed = Bed::new(small_spec(4, 24), None);
    let genesis = bed.h.genesis();
    let round = bed.h.commit_artefact(genesis, 10, fake_artefact(super::PANICS, 1000, 1), 40);
    let block = bed.h.scored_rounds(genesis, &[round], 0, bed.h.parts(genesis));
    assert!(!bed.deliver(std::slice::from_ref(&block)));
    assert!(bed.core().imports.is_idle() && !bed.core().imports.is_refused(&block.hash()));
    assert!(bed.core().blamed.borrow().is_empty(), "nobody else is to blame");
    let next = bed.mine(genesis, 11, vec![]);
    assert!(bed.core().view.chain.contains(&next), "the worker goes on");
    assert!(!bed.core().view.chain.contains(&block.hash()));
}

/// A block of good form and signatures whose state root is wrong: only an execution shows it.
fn wrong_root(bed: &Bed) -> podl_consensus::types::Block {
    let genesis = bed.h.genesis();
    let mut block = bed.h.idle(genesis, 0, None, bed.h.parts(genesis));
    block.header.message.state_root = Hash32([1; 32]);
    let key = bed.h.key_of(&block.header.message.producer);
    block.header = Signed::new(block.header.message, &genesis, key);
    block
}

#[test]
fn whoever_passes_on_a_block_that_was_asked_for_answers_for_its_bytes_only() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let (bad, peer) = (wrong_root(&bed), bed.peer);
    for _ in 0..3 {
        bed.core().deliver(vec![(peer, bad.clone())], false).unwrap();
        assert!(bed.pump(|core| core.imports.is_idle()));
    }
    assert!(bed.core().blamed.borrow().is_empty(), "a vote named it; the one who has it need not have executed it");
    assert!(bed.core().imports.is_refused(&bad.hash()) && bed.core().any_block(&bad.hash()).unwrap().is_none());
    assert_eq!(judged(&mut bed, |_| Gossip::Block(Box::new(bad.clone()))), LEFT, "it is looked at once");
    // Its bytes are another thing, and so is a range, which is what a peer calls its own chain.
    let mut damaged = bed.h.idle(bed.h.genesis(), 1, None, bed.h.parts(bed.h.genesis()));
    damaged.header.signature = Signature([1; 64]);
    bed.core().deliver(vec![(peer, damaged)], false).unwrap();
    assert_eq!(bed.core().blamed.borrow().len(), 1);
    let mut bed = Bed::new(small_spec(4, 24), None);
    let (bad, peer) = (wrong_root(&bed), bed.peer);
    bed.core().deliver(vec![(peer, bad)], true).unwrap();
    assert!(bed.pump(|core| core.imports.is_idle()));
    assert_eq!(bed.core().blamed.borrow().len(), 1, "once");
}

#[test]
fn a_block_that_cannot_follow_is_charged_before_its_signatures_are_looked_at() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let (genesis, peer) = (bed.h.genesis(), bed.peer);
    let stranger = account(12);
    let built = bed.h.chain.build_idle(genesis, stranger, 0, bed.h.parts(genesis), None).unwrap();
    let block = built.sign(bed.h.key_of(&stranger));
    bed.core().deliver(vec![(peer, block.clone())], false).unwrap();
    assert_eq!(*bed.core().blamed.borrow(), [peer]);
    assert!(bed.core().imports.is_refused(&block.hash()));
    // A closing of another round is refused by its first line, whoever signed it.
    let mut listed = closing(&bed, genesis, 1, false);
    listed.list.0[0].message.round = 9;
    assert_eq!(judged(&mut bed, |_| Gossip::Closing(listed)), REFUSED);
}

#[test]
fn a_block_whose_blobs_do_not_come_holds_up_no_other() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let (genesis, peer) = (bed.h.genesis(), bed.peer);
    // Its artefact is in nobody's store.
    let round = bed.h.commit(genesis, 10, 40);
    let hollow = bed.h.scored_rounds(genesis, &[round], 0, bed.h.parts(genesis));
    let whole = bed.h.idle(genesis, 0, None, bed.h.parts(genesis));
    bed.core().deliver(vec![(peer, hollow.clone())], false).unwrap();
    bed.core().deliver(vec![(peer, whole.clone())], true).unwrap();
    assert!(bed.pump(|core| core.view.chain.contains(&whole.hash())));
    assert!(!bed.core().view.chain.contains(&hollow.hash()) && bed.core().blamed.borrow().is_empty());
}

/// A seat that closes at once and lists nobody is among the first majority: the miner waits for the closings that list it.
#[test]
fn a_miner_shows_its_model_once_the_closings_that_list_it_are_there() {
    use crate::service::mining::Committed;
    use podl_consensus::interval::Phase;
    let mut bed = Bed::new(small_spec(4, 24), Some(10));
    let genesis = bed.h.genesis();
    bed.core().drive(Event::Tick).unwrap();
    assert!(matches!(bed.core().machine.phase(), Some((_, Phase::Train))));
    let artefact = podl_consensus::testkit::fake_artefact(40, 1000, 5);
    bed.core().on_commit(Committed { parent: genesis, artefact }).unwrap();
    let own = bed.core().machine.commitments(&genesis);
    assert_eq!(own.len(), 1);
    let close = |bed: &Bed, seat: u64, list: ClosingList| {
        let message = Closing { parent: genesis, seat: account(seat), list_root: list.root() };
        let closing = Signed::new(message, &bed.h.chain.chain_hash(), &signing_key(seat));
        Event::Closing(unchecked(ListedClosing { closing, list }))
    };
    let hollow = close(&bed, 0, ClosingList::default());
    bed.core().drive(hollow).unwrap();
    for seat in [1, 2] {
        let full = close(&bed, seat, ClosingList::new(own.clone()));
        bed.core().drive(full).unwrap();
    }
    assert!(bed.core().view.chain.blocks().next().is_none(), "two of four list it");
    let last = close(&bed, 3, ClosingList::new(own));
    bed.core().drive(last).unwrap();
    assert!(bed.pump(|core| core.view.chain.blocks().any(|(_, b)| b.block.body.outcome.kind() == OutcomeKind::Scored)));
}
