//! What a pool's manager hears of its blocks, and that it pays each of them once.

use std::sync::{Arc, Mutex};

use podl_chain_spec::{Amount, Hash32};
use podl_consensus::testkit::{BALANCE, account, small_spec};
use podl_consensus::types::{BlockHash, Payment, TransactionKind};
use podl_pool::ledger::{PayScheme, PayTerms, ShareList, ShareRow};
use podl_pool::types::MinerId;
use podl_rpc::types::PayoutView;

use super::Bed;
use crate::service::mining::{MiningEvent, MiningPort};

/// The account of the node, which wins every block.
const MANAGER: u64 = 10;
const MINER: u64 = 20;

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Won(BlockHash, Amount),
    Settled(BlockHash, bool),
}

/// A pool that writes down what it hears.
struct Recorder {
    heard: Arc<Mutex<Vec<Heard>>>,
    unsettled: Vec<BlockHash>,
}

impl MiningPort for Recorder {
    fn on_event(&mut self, event: MiningEvent) {
        let heard = match event {
            MiningEvent::Won { block, paid, model, .. } => {
                assert!(model.is_some(), "told which model won");
                Heard::Won(block, paid)
            }
            MiningEvent::Settled { block, is_final } => Heard::Settled(block, is_final),
            _ => return,
        };
        self.heard.lock().unwrap().push(heard);
    }

    fn unsettled(&self) -> Vec<BlockHash> {
        self.unsettled.clone()
    }
}

fn listen(bed: &mut Bed, unsettled: &[BlockHash]) -> Arc<Mutex<Vec<Heard>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder { heard: heard.clone(), unsettled: unsettled.to_vec() };
    bed.core().set_mining(Box::new(recorder)).unwrap();
    heard
}

fn bed() -> (Bed, Vec<BlockHash>) {
    let mut bed = Bed::new(small_spec(4, 24), Some(MANAGER));
    let mut blocks = vec![bed.h.genesis()];
    for _ in 0..4 {
        let block = bed.mine(*blocks.last().unwrap(), MANAGER, Vec::new());
        blocks.push(block);
    }
    (bed, blocks.split_off(1))
}

fn list(block: BlockHash, amount: u64) -> ShareList {
    let terms = PayTerms { fee_basis_points: 0, scheme: PayScheme::default() };
    let row = ShareRow {
        miner: MinerId(Hash32([1; 32])),
        account: account(MINER),
        macs: 5,
        points: 0,
        bonus: Amount::ZERO,
        amount: Amount(amount),
    };
    let (reward, fee, rows) = (Amount(amount), Amount::ZERO, vec![row]);
    ShareList { block, height: 1, reward, terms, model: None, finder: None, fee, rows }
}

fn payout(bed: &mut Bed) -> PayoutView {
    let mut payouts = bed.core().payouts(10);
    assert_eq!(payouts.len(), 1);
    payouts.remove(0)
}

#[test]
fn a_manager_hears_after_every_start_what_became_of_its_blocks() {
    let (mut bed, blocks) = bed();
    let subsidy = bed.core().spec().money.filler_subsidy;
    let lost = Hash32([9; 32]);
    for _ in 0..2 {
        let heard = listen(&mut bed, &[blocks[0], lost]);
        let heard = std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(heard[0], Heard::Settled(lost, false), "what is nowhere is lost");
        for block in &blocks[..2] {
            let (won, settled) = (Heard::Won(*block, subsidy), Heard::Settled(*block, true));
            let place = heard.iter().position(|h| *h == won).expect("told that it won");
            assert!(heard[place..].contains(&settled), "and then that it is final");
        }
        assert!(!heard.contains(&Heard::Settled(blocks[3], false)), "the head is not lost");
        bed.restart();
    }
}

#[test]
fn a_payout_is_signed_once_sent_over_restarts_and_noted_when_final() {
    let (mut bed, blocks) = bed();
    bed.core().pay_shares(list(blocks[0], 700)).unwrap();
    let first = payout(&mut bed);
    let tx = first.tx.expect("signed at once");
    assert_eq!((first.height, first.is_final), (1, false));
    let signed = bed.core().mempool.get(&tx).expect("sent").clone();
    bed.core().pay_shares(list(blocks[0], 700)).unwrap();
    bed.restart();
    bed.core().pay_shares(list(blocks[0], 700)).unwrap();
    bed.core().follow_payouts().unwrap();
    assert_eq!(payout(&mut bed).tx, Some(tx), "the same bytes, however often the pool asks");
    assert_eq!(bed.core().waiting_transactions(), 1);

    let paid = bed.mine(blocks[3], MANAGER, vec![signed]);
    let next = bed.mine(paid, MANAGER, Vec::new());
    bed.mine(next, MANAGER, Vec::new());
    bed.core().follow_payouts().unwrap();
    let done = payout(&mut bed);
    assert_eq!((done.tx, done.is_final), (Some(tx), true));
    bed.core().pay_shares(list(blocks[0], 700)).unwrap();
    assert_eq!(bed.core().waiting_transactions(), 0, "a block that was paid is not paid again");
    let miner = bed.core().account(&account(MINER)).unwrap();
    assert_eq!(miner.spendable.0 + miner.locked.0, BALANCE.0 + 700);
}

#[test]
fn a_payout_waits_until_the_account_can_pay_and_owes_nothing_to_itself() {
    let (mut bed, blocks) = bed();
    bed.core().pay_shares(list(blocks[0], 2 * BALANCE.0)).unwrap();
    assert_eq!(payout(&mut bed).tx, None);
    assert_eq!(bed.core().waiting_transactions(), 0);
    let mut own = list(blocks[1], 500);
    own.rows[0].account = account(MANAGER);
    bed.core().pay_shares(own).unwrap();
    assert_eq!(bed.core().payouts(10).len(), 1, "the manager's own part is not sent to itself");
}

#[test]
fn a_payout_whose_nonce_is_taken_for_good_is_signed_anew() {
    let (mut bed, blocks) = bed();
    bed.core().pay_shares(list(blocks[0], 700)).unwrap();
    let first = payout(&mut bed).tx.unwrap();
    // The same account signs elsewhere: that one gets into the chain.
    let kind = TransactionKind::Transfer(Payment { to: account(21), amount: Amount(5) });
    let other = bed.h.transaction(MANAGER, 0, kind);
    let taken = bed.mine(blocks[3], MANAGER, vec![other]);
    bed.core().follow_payouts().unwrap();
    assert_eq!(payout(&mut bed).tx, Some(first), "a block that is not final may lose");
    let next = bed.mine(taken, MANAGER, Vec::new());
    bed.mine(next, MANAGER, Vec::new());
    // One look finds the nonce gone, the next signs.
    bed.core().follow_payouts().unwrap();
    bed.core().follow_payouts().unwrap();
    let second = payout(&mut bed).tx.unwrap();
    assert_ne!(second, first);
    assert_eq!(bed.core().mempool.get(&second).unwrap().message.nonce, 1);
}
