//! Random runs: whatever happens, the money adds up and a replay ends in the same roots.

use podl_chain_spec::Amount;
use proptest::prelude::*;

use super::{harness, transfer};
use crate::chain::BlockParts;
use crate::state::check_supply;
use crate::testkit::{Harness, account};
use crate::types::{BatchPayment, BlockHash, Payment, SignedTransaction, TaskId, TransactionKind};
use crate::verified::Verified;

/// What happens in one block of a random run.
#[derive(Clone, Debug)]
enum Step {
    Scored { owner: u64, correct: u32, rivals: u64 },
    Idle { view: u32, with_key: bool },
    Void { view: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..8, 1u32..50, 0u64..3).prop_map(|(owner, correct, rivals)| Step::Scored { owner, correct, rivals }),
        2 => (0u32..9, any::<bool>()).prop_map(|(view, with_key)| Step::Idle { view, with_key }),
        1 => (0u32..9).prop_map(|view| Step::Void { view }),
    ]
}

/// What somebody tries to do: 0 transfer, 1 batch, 2 publish, 3 cancel.
type Attempt = (u8, u64, u64, u64, bool);

fn attempt(h: &mut Harness, head: BlockHash, tasks: &[TaskId], what: &Attempt) -> Verified<SignedTransaction> {
    let (kind, sender, to, amount, off_by_one) = *what;
    let nonce = h.account(head, sender).nonce + u64::from(off_by_one);
    let kind = match kind {
        0 => transfer(to, amount),
        1 => {
            let mut payments: Vec<Payment> =
                (to..to + 3).map(|to| Payment { to: account(to), amount: Amount(amount) }).collect();
            payments.sort_by_key(|payment| payment.to);
            let zero = podl_chain_spec::Hash32::ZERO;
            TransactionKind::BatchPayout(BatchPayment { block: zero, shares_root: zero, payments })
        }
        2 => {
            let rounds = u32::try_from(amount % 3).unwrap() + 1;
            let (task, keys) = h.task(rounds);
            return h.publish(sender, nonce, task, keys).0;
        }
        _ => TransactionKind::Cancel(tasks.get(to as usize % tasks.len().max(1)).copied().unwrap_or_default()),
    };
    h.transaction(sender, nonce, kind)
}

fn random_block(h: &mut Harness, head: BlockHash, step: &Step, parts: BlockParts) -> crate::types::Block {
    let interval = h.interval(head);
    let key = h.shard_key(&interval);
    match step {
        Step::Scored { owner, correct, rivals } => {
            let mut rounds = vec![h.commit(head, *owner, *correct)];
            rounds.extend((0..*rivals).map(|rival| h.commit(head, rival + 20, 1)));
            let closings = h.closings(head, &interval.seats, &rounds);
            let opening = rounds[0].opening.clone();
            let built = h.chain.build_scored(head, account(*owner), parts, closings, opening, key).unwrap();
            built.sign(&crate::testkit::signing_key(*owner))
        }
        Step::Idle { view, with_key } => h.idle(head, *view, key.filter(|_| *with_key), parts),
        Step::Void { view } => {
            let round = h.commit(head, 4, 5);
            h.void(head, *view, &[round], parts)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens, no money appears or vanishes, every produced block is valid, and a second node that replays
    /// the blocks from genesis ends in the same roots.
    #[test]
    fn random_runs_keep_the_supply_and_replay(
        steps in prop::collection::vec(
            (step(), prop::collection::vec((0u8..4, 0u64..10, 0u64..30, 0u64..2_000_000_000, any::<bool>()), 0..5), 0usize..5),
            1..24,
        ),
    ) {
        let mut h = harness();
        let (mut head, mut blocks) = (h.genesis(), Vec::new());
        for (step, attempts, voters) in &steps {
            let live = h.chain.state(&head).unwrap().live_tasks().unwrap();
            let transactions = attempts.iter().map(|what| attempt(&mut h, head, &live, what)).collect();
            let mut ready = live.clone();
            ready.truncate(4);
            let votes = h.votes(head, &ready).into_iter().take(*voters).collect();
            let parts = BlockParts { votes, transactions, ..BlockParts::default() };
            let block = random_block(&mut h, head, step, parts);
            match h.import(block.clone()) {
                Ok(imported) => {
                    head = imported.hash;
                    blocks.push(block);
                }
                // The only rules that a random but honestly built block can break.
                Err(crate::rules::BlockError::Work(crate::rules::WorkRuleError::MinGain { .. })
                    | crate::rules::BlockError::Context(crate::rules::ContextError::VoidFiller)
                    | crate::rules::BlockError::Context(crate::rules::ContextError::WinnerFunds { .. })) => (),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        let mut replay = harness();
        replay.blobs = h.blobs.clone();
        for block in blocks {
            replay.import(block).unwrap();
        }
        prop_assert_eq!(replay.meta(head), h.meta(head));
        prop_assert_eq!(replay.chain.finalised(), h.chain.finalised());
        // Fold everything down to the head, as if it were final, and count all the money there is.
        let mut store = h.chain.store().clone();
        let mut branch = Vec::new();
        let mut at = head;
        while let Some(entry) = h.chain.block(&at) {
            branch.push(entry.delta.clone());
            at = entry.block.parent();
        }
        branch.iter().rev().for_each(|delta| store.apply(delta));
        prop_assert_eq!(check_supply(store.values()).unwrap(), h.meta(head).supply);
    }
}
