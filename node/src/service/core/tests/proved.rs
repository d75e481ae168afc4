//! Blocks whose artefacts nobody keeps any more.

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::chain::BlockParts;
use podl_consensus::state::Checkpoint;
use podl_consensus::testkit::small_spec;
use podl_consensus::types::{Block, Height};
use podl_engine::sync::Status;

use super::Bed;

const RETAIN: u64 = 3;

fn spec() -> ChainSpec {
    let mut spec = small_spec(4, 24);
    spec.limits.retain_blocks = RETAIN;
    spec
}

/// A chain of filler blocks; those above `silent` carry no votes on it.
fn chain(bed: &mut Bed, length: usize, silent: Option<Height>) -> Vec<Block> {
    let (mut blocks, mut parent) = (Vec::new(), bed.h.genesis());
    for height in 1..=length as Height {
        let votes = silent != Some(height - 1);
        let parts = if votes { bed.h.parts(parent) } else { BlockParts::default() };
        let block = bed.h.scored(parent, 10, 40, parts);
        parent = bed.h.import(block.clone()).unwrap().hash;
        blocks.push(block);
    }
    blocks
}

/// A peer says that the network is at this height, then brings blocks without their artefacts. The node's head then.
fn sync(bed: &mut Bed, claimed: Height, blocks: &[Block]) -> Height {
    let (peer, chain) = (bed.peer, bed.h.genesis());
    let head = Checkpoint { height: claimed, block: Hash32([1; 32]) };
    let status = Status { chain, head, finalised: Checkpoint { height: 0, block: chain } };
    let event = podl_engine::sync::Event::PeerStatus { peer, status, highest: Height::MAX };
    bed.core().sync_event(event).unwrap();
    bed.core().deliver(blocks.iter().map(|block| (peer, block.clone())).collect(), true).unwrap();
    bed.pump(|core| core.imports.is_idle());
    blocks.iter().filter(|b| bed.core().view.chain.contains(&b.hash())).map(Block::height).max().unwrap_or(0)
}

#[test]
fn old_blocks_are_taken_on_the_word_of_their_seats_and_young_ones_are_not() {
    let mut bed = Bed::new(spec(), None);
    let blocks = chain(&mut bed, 8, None);
    // The last of a range has no successor with it: it comes first in the next.
    assert_eq!(sync(&mut bed, 20, &blocks[..4]), 3);
    assert_eq!(sync(&mut bed, 20, &blocks[3..]), 7);
    assert!(bed.core().finalised().height >= 5);

    let mut bed = Bed::new(spec(), None);
    let blocks = chain(&mut bed, 8, None);
    // Blocks 1 to 4 are more than three below 8, the others are not.
    assert_eq!(sync(&mut bed, 8, &blocks), 4);
}

#[test]
fn a_block_that_no_quorum_vouched_for_is_checked_however_old_it_is() {
    let mut bed = Bed::new(spec(), None);
    let blocks = chain(&mut bed, 6, Some(3));
    assert_eq!(sync(&mut bed, 100, &blocks), 2);

    // Votes of half of the seats, or forged ones, prove nothing.
    let mut bed = Bed::new(spec(), None);
    let mut blocks = chain(&mut bed, 4, None);
    blocks[1].body.votes.truncate(2);
    assert_eq!(sync(&mut bed, 100, &blocks), 0);
    let mut bed = Bed::new(spec(), None);
    let mut blocks = chain(&mut bed, 4, None);
    for vote in &mut blocks[1].body.votes {
        vote.signature.0[0] ^= 1;
    }
    assert_eq!(sync(&mut bed, 100, &blocks), 0);
}
