//! Random forks: nodes that hear of the same blocks in different orders end in the same place.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::harness;
use crate::chain::BlockParts;
use crate::rules::BlockError;
use crate::testkit::Harness;
use crate::types::{Block, BlockHash, Height};

/// Grows a random tree. Seats vote for at most one block of a height, on whichever branch, so that nobody equivocates.
fn grow(h: &mut Harness, plan: &[(Index, u64, bool, usize)]) -> Vec<Block> {
    let (mut blocks, mut voted) = (Vec::new(), BTreeMap::<Height, BlockHash>::new());
    let mut tips = vec![h.genesis()];
    for (which, owner, scored, voters) in plan {
        tips.retain(|tip| h.chain.contains(tip));
        // Most often on one of the newest blocks, so that branches get long enough for finality.
        let recent = tips.len().min(3);
        let parent = tips[tips.len() - 1 - which.index(recent)];
        let height = h.chain.height(&parent).unwrap();
        let chosen = *voted.entry(height).or_insert(parent);
        let votes = if chosen == parent { h.votes(parent, &[]).into_iter().take(*voters).collect() } else { vec![] };
        let parts = BlockParts { votes, ..BlockParts::default() };
        let view = u32::try_from(*owner).unwrap();
        let block = if *scored { h.scored(parent, *owner, 50, parts) } else { h.idle(parent, view, None, parts) };
        match h.import(block.clone()) {
            Ok(imported) => {
                tips.push(imported.hash);
                blocks.push(block);
            }
            Err(BlockError::Known(_) | BlockError::NotAboveFinal { .. }) => (),
            Err(error) => panic!("{error}"),
        }
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_arrival_does_not_matter(
        plan in prop::collection::vec((any::<Index>(), 0u64..8, any::<bool>(), 3usize..9), 4..30),
        order in prop::collection::vec(any::<Index>(), 30),
    ) {
        let mut first = harness();
        let blocks = grow(&mut first, &plan);
        let mut second = harness();
        second.blobs = first.blobs.clone();
        let mut waiting = blocks.clone();
        for pick in order.iter().cycle().take(60) {
            let ready: Vec<usize> =
                (0..waiting.len()).filter(|i| second.chain.contains(&waiting[*i].parent())).collect();
            if ready.is_empty() {
                break;
            }
            let block = waiting.remove(ready[pick.index(ready.len())]);
            match second.import(block) {
                Ok(_) | Err(BlockError::NotAboveFinal { .. }) => (),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert_eq!(first.chain.finalised(), second.chain.finalised());
        prop_assert_eq!(first.chain.stored(), second.chain.stored());
        let names = |h: &Harness| h.chain.blocks().map(|(hash, b)| (*hash, b.delta.root)).collect::<Vec<_>>();
        prop_assert_eq!(names(&first), names(&second));
        prop_assert_eq!(first.chain.store(), second.chain.store());
        // Every block that is left descends from the final one.
        for (hash, _) in first.chain.blocks() {
            let finalised = first.chain.finalised();
            prop_assert_eq!(first.chain.ancestor(hash, finalised.height), Some(finalised.block));
        }
    }
}
