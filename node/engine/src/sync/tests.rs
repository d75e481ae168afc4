use podl_chain_spec::AccountId;
use podl_consensus::signed::{Signature, Signed};
use podl_consensus::types::{Body, Header, Outcome};

use super::*;

const CHAIN: Hash32 = Hash32([1; 32]);

fn block(height: Height, parent: BlockHash) -> Block {
    let body = Body { votes: vec![], certificate: None, outcome: Outcome::Idle { key: None }, transactions: vec![] };
    let header = Header {
        chain: CHAIN,
        height,
        parent,
        time_ms: height,
        kind: body.outcome.kind(),
        view: 0,
        task: Hash32::ZERO,
        round: 0,
        producer: AccountId([3; 32]),
        body_root: body.root(),
        state_root: Hash32::ZERO,
    };
    Block { header: Signed { message: header, signature: Signature([0; 64]) }, body }
}

fn chain(length: u64) -> Vec<Block> {
    let mut blocks = vec![block(0, Hash32::ZERO)];
    for height in 1..=length {
        let parent = blocks[blocks.len() - 1].hash();
        blocks.push(block(height, parent));
    }
    blocks
}

fn point(block: &Block) -> Checkpoint {
    Checkpoint { height: block.height(), block: block.hash() }
}

/// What a peer says, as seen by a node whose clock allows for a million blocks.
fn says(peer: u8, blocks: &[Block], head: usize, finalised: usize) -> Event<u8> {
    claims(peer, point(&blocks[head]), point(&blocks[finalised]))
}

fn claims(peer: u8, head: Checkpoint, finalised: Checkpoint) -> Event<u8> {
    Event::PeerStatus { peer, status: Status { chain: CHAIN, head, finalised }, highest: 1_000_000 }
}

fn machine(blocks: &[Block]) -> Sync<u8> {
    Sync::new(CHAIN, point(&blocks[0]), point(&blocks[0]))
}

fn range_asked(effects: &[Effect<u8>]) -> Option<(u8, u64, Height)> {
    effects.iter().find_map(|effect| match effect {
        Effect::RequestRange { peer, request, from, .. } => Some((*peer, *request, *from)),
        _ => None,
    })
}

fn blocks_asked(effects: &[Effect<u8>]) -> Vec<(u8, u64, BlockHash)> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::RequestBlock { peer, request, hash } => Some((*peer, *request, *hash)),
        _ => None,
    });
    asked.collect()
}

fn blamed(effects: &[Effect<u8>]) -> Vec<u8> {
    let blamed = effects.iter().filter_map(|effect| match effect {
        Effect::Penalise { peer, .. } => Some(*peer),
        _ => None,
    });
    blamed.collect()
}

fn delivery(peer: u8, blocks: &[Block], is_range: bool) -> Effect<u8> {
    Effect::Deliver { blocks: blocks.iter().map(|block| (peer, block.clone())).collect(), is_range }
}

fn answer(peer: u8, request: u64, blocks: &[Block]) -> Event<u8> {
    Event::Blocks { peer, request, blocks: blocks.to_vec(), connects: true }
}

#[test]
fn catches_up_range_by_range() {
    let blocks = chain(70);
    let mut sync = machine(&blocks);
    let mut effects = sync.handle(0, says(7, &blocks, 70, 68));
    assert!(!sync.is_behind(), "a claim is only a reason to ask");
    let mut have = 0usize;
    for _ in 0..3 {
        let (peer, request, from) = range_asked(&effects).expect("a range request");
        assert_eq!((peer, from), (7, have as u64 + 1));
        let range = &blocks[have + 1..(have + 33).min(71)];
        let delivered = sync.handle(1, answer(peer, request, range));
        assert_eq!(delivered, [delivery(peer, range, true)]);
        have += range.len();
        let moved = sync.handle(2, Event::Local { head: point(&blocks[have]), finalised: point(&blocks[have - 2]) });
        assert_eq!(moved.contains(&Effect::Behind(0)), have == 70);
        assert_eq!(sync.is_behind(), have < 70);
        let imported = u32::try_from(range.len()).unwrap();
        effects = sync.handle(2, Event::Processed { peer, range: RangeEnd::Imported(imported) });
    }
    assert_eq!((have, effects.is_empty()), (70, true));
}

#[test]
fn a_lying_status_neither_mutes_nor_holds_up() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    let far = Checkpoint { height: 1 << 60, block: Hash32([5; 32]) };
    for peer in 0..9 {
        assert!(sync.handle(0, claims(peer, far, far)).is_empty(), "no clock allows for so many blocks");
    }
    // What may be is asked for, from one liar after the other, and never believed.
    let far = Checkpoint { height: 900_000, block: Hash32([5; 32]) };
    let mut effects = Vec::new();
    for peer in 0..9 {
        effects.extend(sync.handle(0, claims(peer, far, far)));
    }
    effects.extend(sync.handle(0, says(20, &blocks, 9, 7)));
    assert!(range_asked(&effects).is_some_and(|(peer, ..)| peer < 9));
    let mut now = 0;
    let found = loop {
        now += 1_000;
        let effects = sync.handle(now, Event::Tick);
        assert!(!sync.is_behind() && !effects.iter().any(|e| matches!(e, Effect::Behind(_))));
        if let Some((20, request, from)) = range_asked(&effects) {
            break (request, from);
        }
        assert!(now < 120_000, "the honest one is asked in the end");
    };
    sync.handle(now, answer(20, found.0, &blocks[1..]));
    sync.handle(now, Event::Local { head: point(&blocks[9]), finalised: point(&blocks[7]) });
    sync.handle(now, Event::Processed { peer: 20, range: RangeEnd::Imported(9) });
    // From now on the one that brought blocks is asked first.
    let more = Checkpoint { height: 12, block: Hash32([6; 32]) };
    let effects = sync.handle(now + 60_000, claims(20, more, point(&blocks[9])));
    assert_eq!(range_asked(&effects).map(|(peer, ..)| peer), Some(20));
}

#[test]
fn votes_of_a_quorum_say_that_the_node_is_behind() {
    let blocks = chain(3);
    let mut sync = machine(&blocks);
    assert!(sync.handle(0, Event::VotedAhead(1)).is_empty(), "one is everyday");
    assert_eq!(sync.handle(0, Event::VotedAhead(2)), [Effect::Behind(2)]);
    assert_eq!(
        sync.handle(1, Event::Local { head: point(&blocks[2]), finalised: point(&blocks[0]) }),
        [Effect::Behind(0)]
    );
}

#[test]
fn liars_are_named_and_left() {
    let blocks = chain(9);
    let mut other = blocks.clone();
    other[5] = block(5, Hash32([9; 32]));
    for (wrong, why) in [(blocks[2..4].to_vec(), "another range"), (other[1..9].to_vec(), "no chain")] {
        let mut sync = machine(&blocks);
        sync.handle(0, says(7, &blocks, 9, 7));
        let effects = sync.handle(1, answer(7, 0, &wrong));
        assert!(
            matches!(&effects[..], [Effect::Penalise { peer: 7, why: said }, ..] if said.contains(why)),
            "{effects:?}"
        );
    }
    let mut sync = machine(&blocks);
    let status = Status { chain: Hash32([2; 32]), head: point(&blocks[9]), finalised: point(&blocks[7]) };
    assert_eq!(blamed(&sync.handle(0, Event::PeerStatus { peer: 7, status, highest: 100 })), [7]);
    assert_eq!(blamed(&sync.handle(0, says(7, &blocks, 3, 9))), [7], "final above its head");
}

#[test]
fn while_a_peer_is_silent_others_are_asked_and_it_is_blamed_in_the_end() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    sync.handle(0, says(1, &blocks, 9, 8));
    sync.handle(0, says(2, &blocks, 9, 7));
    let effects = sync.handle(RANGE_HEDGE_MS, Event::Tick);
    assert!(range_asked(&effects).is_some_and(|(peer, ..)| peer == 2), "{effects:?}");
    sync.handle(RANGE_HEDGE_MS, Event::PeerGone(2));
    let mut now = RANGE_HEDGE_MS;
    let mut named = Vec::new();
    for _ in 0..20 {
        now += 10_000;
        named.extend(blamed(&sync.handle(now, Event::Tick)));
    }
    assert_eq!(named, [1]);
    assert_eq!(sync.best_peer_height(), None, "what it claimed counts for nothing");
}

#[test]
fn only_imported_blocks_make_failures_forgotten() {
    let blocks = chain(40);
    let mut sync = machine(&blocks);
    let mut named = Vec::new();
    // It answers every other request, with blocks that lead nowhere, and tells its status again and again.
    let mut now = 0;
    for round in 0..12 {
        now += 20_000;
        let effects = sync.handle(now, says(1, &blocks, 40, 0));
        let Some((peer, request, from)) = range_asked(&effects) else { continue };
        let range: Vec<Block> = blocks[usize::try_from(from).unwrap()..].iter().take(2).cloned().collect();
        let range = if round % 2 == 0 { range } else { Vec::new() };
        let came = !range.is_empty();
        named.extend(blamed(&sync.handle(now, answer(peer, request, &range))));
        if came {
            named.extend(blamed(&sync.handle(now, Event::Processed { peer, range: RangeEnd::Unconnected })));
        }
    }
    assert!(!named.is_empty());
    // Going away and coming back is no fresh start.
    let mut sync = machine(&blocks);
    let mut named = Vec::new();
    for _ in 0..3 {
        now += 20_000;
        let effects = sync.handle(now, says(1, &blocks, 40, 0));
        let (peer, request, _) = range_asked(&effects).unwrap();
        named.extend(blamed(&sync.handle(now, answer(peer, request, &[]))));
        sync.handle(now, Event::PeerGone(1));
    }
    assert_eq!(named, [1]);
}

#[test]
fn a_peer_on_another_branch_is_asked_from_the_last_final_block_and_past_what_is_known() {
    let blocks = chain(9);
    let mut sync = Sync::new(CHAIN, point(&blocks[4]), point(&blocks[2]));
    sync.handle(0, says(7, &blocks, 9, 2));
    sync.handle(1, answer(7, 0, &blocks[5..]));
    // The caller could not connect them to its chain.
    let effects = sync.handle(2, Event::Processed { peer: 7, range: RangeEnd::Unconnected });
    let (_, request, from) = range_asked(&effects).unwrap();
    assert_eq!(from, 3);
    // Of a long branch without finality the first range may be known as a whole.
    sync.handle(3, answer(7, request, &blocks[3..5]));
    let effects = sync.handle(4, Event::Processed { peer: 7, range: RangeEnd::Known(4) });
    assert_eq!(range_asked(&effects).map(|(_, _, from)| from), Some(5));
    assert!(blamed(&effects).is_empty());
}

#[test]
fn what_cannot_be_checked_now_is_nobodys_fault() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    let mut effects = sync.handle(0, says(7, &blocks, 9, 7));
    for round in 1..=6u64 {
        let (peer, request, _) = range_asked(&effects).expect("asked again");
        sync.handle(round * 20_000, answer(peer, request, &blocks[1..]));
        effects = sync.handle(round * 20_000, Event::Processed { peer, range: RangeEnd::Stalled });
        assert!(blamed(&effects).is_empty() && range_asked(&effects).is_none(), "after a pause");
        effects = sync.handle(round * 20_000 + 10_000, Event::Tick);
    }
}

#[test]
fn a_block_that_votes_name_is_asked_of_who_sent_them_then_of_others_and_nobody_is_blamed() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    for peer in 1..=4 {
        sync.handle(0, says(peer, &blocks, 0, 0));
    }
    let hash = blocks[1].hash();
    sync.handle(0, Event::Named { peer: 3, hash });
    let mut effects = sync.handle(0, Event::Unknown { peer: None, hash });
    let mut asked = Vec::new();
    for _ in 0..4 {
        let [(peer, request, _)] = blocks_asked(&effects)[..] else { panic!("one at a time: {effects:?}") };
        asked.push(peer);
        effects = sync.handle(1, answer(peer, request, &[]));
        assert!(blamed(&effects).is_empty());
    }
    assert_eq!(asked[0], 3, "who named it comes first");
    asked.sort_unstable();
    assert_eq!(asked, [1, 2, 3, 4]);
    assert!(effects.is_empty(), "nobody has it; votes ask again");
    assert_eq!(blocks_asked(&sync.handle(2, Event::Unknown { peer: None, hash })).len(), 1);
    // One that keeps the node waiting does not keep the block from it.
    let effects = sync.handle(2 + SINGLE_HEDGE_MS, Event::Tick);
    let [(peer, request, _)] = blocks_asked(&effects)[..] else { panic!("another one: {effects:?}") };
    let effects = sync.handle(3 + SINGLE_HEDGE_MS, answer(peer, request, &blocks[1..2]));
    assert_eq!(effects, [delivery(peer, &blocks[1..2], false)]);
    // A false block is another thing.
    let hash = blocks[2].hash();
    let effects = sync.handle(9_000, Event::Unknown { peer: Some(1), hash });
    let [(1, request, _)] = blocks_asked(&effects)[..] else { panic!("of who sent what builds on it: {effects:?}") };
    assert_eq!(blamed(&sync.handle(9_001, answer(1, request, &blocks[3..4]))), [1]);
}

#[test]
fn parents_are_followed_and_delivered_before_what_builds_on_them() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    sync.handle(0, says(7, &blocks, 0, 0));
    let mut effects = sync.handle(0, Event::Unknown { peer: Some(7), hash: blocks[3].hash() });
    for height in [3usize, 2] {
        let [(peer, request, hash)] = blocks_asked(&effects)[..] else { panic!("{effects:?}") };
        assert_eq!(hash, blocks[height].hash());
        let one = blocks[height..=height].to_vec();
        effects = sync.handle(1, Event::Blocks { peer, request, blocks: one, connects: false });
    }
    let [(peer, request, hash)] = blocks_asked(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(hash, blocks[1].hash());
    let effects = sync.handle(2, answer(peer, request, &blocks[1..2]));
    assert_eq!(effects, [delivery(peer, &blocks[1..4], false)]);
}

#[test]
fn what_strangers_can_make_a_node_want_is_bounded() {
    let blocks = chain(1);
    let mut sync = machine(&blocks);
    let mut n = 0u64;
    let mut hash = || {
        n += 1;
        podl_consensus::hash::hash_value(podl_consensus::hash::Domain::Header, &n)
    };
    for peer in 0..100 {
        sync.handle(0, says(peer, &blocks, 0, 0));
        for _ in 0..100 {
            let hash = hash();
            sync.handle(0, Event::Named { peer, hash });
            sync.handle(0, Event::Unknown { peer: Some(peer), hash });
        }
    }
    assert!(sync.wanted.len() <= 32 && sync.in_flight.len() <= SINGLE_REQUESTS);
    // What votes name has places of its own.
    let (before, voted) = (sync.wanted.len(), hash());
    assert_eq!(sync.in_flight.len(), SINGLE_REQUESTS_OF_PEERS);
    let effects = sync.handle(0, Event::Unknown { peer: None, hash: voted });
    assert_eq!(sync.wanted.len(), before + 1);
    assert!(blocks_asked(&effects).iter().any(|(.., hash)| *hash == voted), "and is asked for at once");
}

#[test]
fn no_number_that_a_peer_claims_reaches_arithmetic() {
    let blocks = chain(3);
    for height in [u64::MAX, u64::MAX - 1, 1 << 63, 0] {
        let mut sync = machine(&blocks);
        let end = Checkpoint { height, block: Hash32([8; 32]) };
        for highest in [0, 5, u64::MAX] {
            let status = Status { chain: CHAIN, head: end, finalised: end };
            sync.handle(0, Event::PeerStatus { peer: 1, status, highest });
            for now in [0, 50_000, u64::MAX] {
                sync.handle(now, Event::Tick);
            }
            sync.handle(1, Event::VotedAhead(height));
            let far = block(height, Hash32([4; 32]));
            sync.handle(2, Event::Unknown { peer: Some(1), hash: far.hash() });
            sync.handle(3, Event::Processed { peer: 1, range: RangeEnd::Known(height) });
            for request in 0..8 {
                let blocks = vec![far.clone()];
                sync.handle(4, Event::Blocks { peer: 1, request, blocks, connects: false });
            }
        }
    }
}

#[test]
fn a_newcomer_queues_behind_those_that_wait() {
    let blocks = chain(40);
    let mut sync = machine(&blocks);
    // Liars with the lowest names come first and never answer; a fresh one comes every five seconds.
    let far = Checkpoint { height: 900_000, block: Hash32([5; 32]) };
    for peer in 0..4 {
        sync.handle(0, claims(peer, far, far));
    }
    sync.handle(0, says(200, &blocks, 40, 30));
    let (mut now, mut fresh) = (0, 10u8);
    loop {
        now += 5_000;
        fresh += 1;
        let mut effects = sync.handle(now, claims(fresh, far, far));
        effects.extend(sync.handle(now, Event::Tick));
        if range_asked(&effects).is_some_and(|(peer, ..)| peer == 200) {
            return;
        }
        assert!(now < 60_000, "the honest peer is asked in its turn, whoever comes");
    }
}

#[test]
fn a_level_node_asks_nobody_for_what_it_has() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    let effects = sync.handle(0, says(7, &blocks, 2, 0));
    let (peer, request, _) = range_asked(&effects).unwrap();
    // Gossip brings the blocks meanwhile.
    sync.handle(1, Event::Local { head: point(&blocks[2]), finalised: point(&blocks[0]) });
    sync.handle(2, answer(peer, request, &blocks[1..3]));
    let effects = sync.handle(3, Event::Processed { peer, range: RangeEnd::Known(2) });
    assert!(effects.is_empty(), "{effects:?}");
    for head in 3..6 {
        let moved = sync.handle(4, Event::Local { head: point(&blocks[head]), finalised: point(&blocks[head - 2]) });
        let told = sync.handle(5, says(7, &blocks, head, head - 2));
        assert!(range_asked(&moved).is_none() && range_asked(&told).is_none());
    }
}

#[test]
fn each_block_is_delivered_with_who_sent_it() {
    let blocks = chain(3);
    let mut sync = machine(&blocks);
    sync.handle(0, says(1, &blocks, 0, 0));
    sync.handle(0, says(2, &blocks, 0, 0));
    let effects = sync.handle(0, Event::Unknown { peer: Some(1), hash: blocks[2].hash() });
    let [(1, request, _)] = blocks_asked(&effects)[..] else { panic!("{effects:?}") };
    let orphan = Event::Blocks { peer: 1, request, blocks: vec![blocks[2].clone()], connects: false };
    let effects = sync.handle(1, orphan);
    let [(1, request, _)] = blocks_asked(&effects)[..] else { panic!("{effects:?}") };
    // It does not bring the parent, which an honest peer does: that one answers for the parent only.
    let effects = sync.handle(2, answer(1, request, &[]));
    let [(2, request, _)] = blocks_asked(&effects)[..] else { panic!("{effects:?}") };
    let effects = sync.handle(3, answer(2, request, &blocks[1..2]));
    let blocks = vec![(2, blocks[1].clone()), (1, blocks[2].clone())];
    assert_eq!(effects, [Effect::Deliver { blocks, is_range: false }]);
}
