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

fn status(blocks: &[Block], head: usize, finalised: usize) -> Status {
    Status { chain: CHAIN, head: point(&blocks[head]), finalised: point(&blocks[finalised]) }
}

fn machine(blocks: &[Block]) -> Sync<u8> {
    Sync::new(CHAIN, point(&blocks[0]), point(&blocks[0]))
}

#[test]
fn catches_up_range_by_range() {
    let blocks = chain(70);
    let mut sync = machine(&blocks);
    let mut effects = sync.handle(0, Event::PeerStatus(7, status(&blocks, 70, 68)));
    assert!(effects.contains(&Effect::Behind(70)));
    let mut have = 0;
    for _ in 0..3 {
        let Some(Effect::RequestRange { peer, request, from, count }) =
            effects.iter().find(|e| matches!(e, Effect::RequestRange { .. })).cloned()
        else {
            panic!("no range request in {effects:?}")
        };
        assert_eq!((peer, from), (7, have + 1));
        let answer: Vec<Block> = blocks[from as usize..].iter().take(count as usize).cloned().collect();
        let delivered = sync.handle(1, Event::Blocks { peer, request, blocks: answer.clone() });
        assert_eq!(delivered, [Effect::Deliver { peer, blocks: answer.clone() }]);
        have += answer.len() as u64;
        let head = point(&blocks[have as usize]);
        let moved = sync.handle(2, Event::Local { head, finalised: point(&blocks[have as usize - 2]) });
        assert_eq!(moved.contains(&Effect::Behind(0)), have == 70);
        effects = sync.handle(2, Event::Processed { peer, invalid: false, imported: answer.len() as u32 });
    }
    assert_eq!(have, 70);
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn liars_are_named_and_left() {
    let blocks = chain(9);
    let mut other = blocks.clone();
    other[5] = block(5, Hash32([9; 32]));
    for (answer, why) in [(blocks[2..4].to_vec(), "another range"), (other[1..9].to_vec(), "no chain")] {
        let mut sync = machine(&blocks);
        sync.handle(0, Event::PeerStatus(7, status(&blocks, 9, 7)));
        let effects = sync.handle(1, Event::Blocks { peer: 7, request: 0, blocks: answer });
        assert!(
            matches!(&effects[..], [Effect::Penalise { peer: 7, why: said }, ..] if said.contains(why)),
            "{effects:?}"
        );
    }
    let mut sync = machine(&blocks);
    let wrong = Status { chain: Hash32([2; 32]), ..status(&blocks, 9, 7) };
    assert!(matches!(sync.handle(0, Event::PeerStatus(7, wrong))[..], [Effect::Penalise { .. }]));
}

#[test]
fn a_silent_peer_is_left_for_another_and_dropped_in_the_end() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    sync.handle(0, Event::PeerStatus(1, status(&blocks, 9, 8)));
    sync.handle(0, Event::PeerStatus(2, status(&blocks, 9, 7)));
    let effects = sync.handle(REQUEST_TIMEOUT_MS, Event::Tick);
    assert!(matches!(effects[..], [Effect::RequestRange { peer: 2, .. }]), "{effects:?}");
    sync.handle(REQUEST_TIMEOUT_MS, Event::PeerGone(2));
    let mut now = REQUEST_TIMEOUT_MS;
    let mut blamed = false;
    for _ in 0..20 {
        now += PEER_PAUSE_MS;
        blamed |= sync.handle(now, Event::Tick).iter().any(|e| matches!(e, Effect::Penalise { peer: 1, .. }));
    }
    assert!(blamed);
    assert_eq!(sync.best_peer_height(), None);
}

#[test]
fn a_peer_on_another_branch_is_asked_from_the_last_final_block() {
    let blocks = chain(9);
    let mut sync = Sync::new(CHAIN, point(&blocks[4]), point(&blocks[2]));
    sync.handle(0, Event::PeerStatus(7, status(&blocks, 9, 2)));
    sync.handle(1, Event::Blocks { peer: 7, request: 0, blocks: blocks[5..].to_vec() });
    // The caller could not connect them to its chain.
    let effects = sync.handle(2, Event::Processed { peer: 7, invalid: false, imported: 0 });
    assert!(matches!(effects[..], [Effect::RequestRange { from: 3, .. }]), "{effects:?}");
}

#[test]
fn unknown_blocks_are_asked_once_and_boundedly() {
    let blocks = chain(9);
    let mut sync = machine(&blocks);
    assert!(sync.handle(0, Event::Unknown { peer: 7, hash: blocks[3].hash() }).is_empty(), "a stranger is not asked");
    sync.handle(0, Event::PeerStatus(7, status(&blocks, 0, 0)));
    let hash = blocks[9].hash();
    let first = sync.handle(0, Event::Unknown { peer: 7, hash });
    assert!(matches!(first[..], [Effect::RequestBlock { .. }]));
    assert!(sync.handle(0, Event::Unknown { peer: 7, hash }).is_empty());
    let effects = sync.handle(1, Event::Blocks { peer: 7, request: 0, blocks: vec![blocks[9].clone()] });
    assert!(
        matches!(&effects[..], [Effect::RequestBlock { hash, .. }, Effect::Deliver { .. }] if *hash == blocks[8].hash())
    );
    for i in 0..100 {
        sync.handle(1, Event::Unknown { peer: 7, hash: Hash32([i; 32]) });
    }
    assert_eq!(sync.in_flight.len(), SINGLE_REQUESTS);
}
