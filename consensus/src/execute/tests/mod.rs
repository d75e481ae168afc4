//! The state transition in detail: money of every outcome, seats, task life, transactions.

mod random;

use podl_chain_spec::Amount;

use super::*;
use crate::chain::{BlockParts, LeftOut};
use crate::state::{TaskPhase, TaskStatus};
use crate::testkit::{BALANCE, Harness, account, small_spec};
use crate::types::{BatchPayment, BlockHash, Payment, TaskId, TransactionKind};
use crate::verified::Verified;

fn harness() -> Harness {
    Harness::new(small_spec(4, 8))
}

fn status(h: &Harness, block: BlockHash, task: TaskId) -> TaskStatus {
    h.chain.state(&block).unwrap().task_status(&task).unwrap().unwrap()
}

fn transfer(to: u64, amount: u64) -> TransactionKind {
    TransactionKind::Transfer(Payment { to: account(to), amount: Amount(amount) })
}

/// Imports an idle block with these transactions offered and returns it with what was left out.
fn idle_with(
    h: &mut Harness,
    parent: BlockHash,
    transactions: Vec<Verified<SignedTransaction>>,
) -> (BlockHash, Vec<LeftOut>) {
    let producer = h.interval(parent).fallback_producer(0).unwrap();
    let parts = BlockParts { transactions, ..h.parts(parent) };
    let built = h.chain.build_idle(parent, producer, 0, parts, None).unwrap();
    let left_out = built.left_out.iter().map(|(_, reason)| reason.clone()).collect();
    let block = built.sign(h.key_of(&producer));
    (h.import(block).unwrap().hash, left_out)
}

#[test]
fn a_filler_winner_earns_new_money_locked_and_pays_its_commitments() {
    let mut h = harness();
    let head = h.advance(h.genesis(), 4, 50, vec![]);
    let spec = h.chain.spec().clone();
    let winner = h.account(head, 4);
    let fee = spec.money.commitment_fee_min.max(Amount(spec.money.filler_subsidy.0 / 64));
    assert_eq!(winner.balance.0, BALANCE.0 - fee.0);
    assert_eq!(winner.locked, [(9, spec.money.filler_subsidy)]);
    let meta = h.meta(head);
    assert_eq!((meta.minted, meta.burned), (spec.money.filler_subsidy, fee));
    assert_eq!(meta.winners, [(1, account(4))]);
}

#[test]
fn a_task_winner_earns_the_reward_less_the_burn_and_the_subsidy() {
    let mut h = harness();
    let (task, parent) = h.open_task(h.genesis(), 7, 2);
    let before = h.meta(parent);
    let head = h.advance(parent, 4, 20, vec![]);
    let spec = h.chain.spec().clone();
    let reward = spec.money.min_reward;
    let burn = reward.percent(spec.money.burn_percent).max(spec.money.burn_min);
    let subsidy = burn.percent(spec.money.subsidy_percent);
    assert_eq!(h.account(head, 4).locked[0].1.0, reward.0 - burn.0 + subsidy.0);
    let commitment = reward.0 / u64::from(spec.limits.list_cap);
    assert_eq!(h.meta(head).burned.0 - before.burned.0, burn.0 + commitment);
    let votes = 4 * spec.money.vote_pay.0;
    assert_eq!(h.meta(head).minted.0 - before.minted.0, subsidy.0 + votes);
    assert_eq!(status(&h, head, task).escrow, reward);
}

#[test]
fn votes_pay_their_seats_and_an_eighth_the_producer() {
    let mut h = harness();
    let head = h.advance(h.genesis(), 4, 50, vec![]);
    let block = h.idle(head, 0, None, BlockParts { votes: h.votes(head, &[])[..3].to_vec(), ..Default::default() });
    let producer = block.header.message.producer;
    let voters: Vec<_> = block.body.votes.iter().map(|vote| vote.message.seat).collect();
    let next = h.import(block).unwrap().hash;
    let pay = h.chain.spec().money.vote_pay.0;
    for seat in 0..4 {
        let voted = voters.contains(&account(seat));
        let produced = producer == account(seat);
        let expected = u64::from(voted) * (pay - pay / 8) + u64::from(produced) * 3 * (pay / 8);
        assert_eq!(h.account(next, seat).balance.0 - h.account(head, seat).balance.0, expected);
        let place = h.meta(next).seats.current.iter().find(|s| s.account == account(seat)).unwrap().last_vote;
        assert_eq!(place, if voted { 2 } else { 0 });
    }
}

#[test]
fn winners_of_final_blocks_take_seats_and_the_oldest_leaves_with_its_bond_locked() {
    let mut h = harness();
    let first = h.advance(h.genesis(), 4, 50, vec![]);
    let second = h.advance(first, 1, 50, vec![]);
    let third = h.advance(second, 4, 50, vec![]);
    // Block 3 makes block 1 final: account 4 is seated, seat 0 leaves.
    let seats = |block| h.meta(block).seats.current.iter().map(|s| s.account).collect::<Vec<_>>();
    assert_eq!(seats(third), [1, 2, 3, 4].map(account));
    assert_eq!(h.meta(third).seats.previous, [0, 1, 2, 3].map(account));
    assert_eq!(h.meta(third).seats_log.last().unwrap().0, 3);
    let bond = h.chain.spec().seats.seat_bond;
    let left = h.account(third, 0);
    assert_eq!(left.locked, [(unlock_height(h.chain.spec(), 3), bond)]);
    // The bond came out of what was locked first, then out of the balance.
    assert!(h.account(third, 4).still_locked(3) <= h.chain.spec().money.filler_subsidy);
    // Block 4 makes block 2 final: seat 1 won again, moves to the young end, and nobody is replaced.
    let fourth = h.advance(third, 4, 50, vec![]);
    let seats = |block| h.meta(block).seats.current.iter().map(|s| s.account).collect::<Vec<_>>();
    assert_eq!(seats(fourth), [2, 3, 4, 1].map(account));
    assert_eq!(h.meta(fourth).seats.previous, [0, 1, 2, 3].map(account));
}

#[test]
fn a_winner_that_cannot_pay_the_bond_gets_no_seat() {
    let mut spec = small_spec(4, 8);
    let balance = Amount(1_000_000);
    spec.genesis.accounts.push(podl_chain_spec::GenesisAccount { account: account(8), balance });
    let mut h = Harness::new(spec);
    let mut head = h.genesis();
    for owner in [8, 4] {
        head = h.advance(head, owner, 50, vec![]);
    }
    let parts = h.parts(head);
    let block = h.scored(head, 4, 50, parts);
    let imported = h.import(block).unwrap();
    assert!(imported.events.contains(&Event::SeatUnfunded { account: account(8) }));
    assert!(!imported.meta.seats.is_seat(&account(8)));
}

#[test]
fn a_task_opens_when_a_majority_of_the_seats_holds_its_blobs() {
    let mut h = harness();
    let (task, keys) = h.task(1);
    let (publish, id) = h.publish(7, 0, task, keys);
    let (published, _) = {
        let g = h.genesis();
        idle_with(&mut h, g, vec![publish])
    };
    let flags = |h: &Harness, block: BlockHash, seats: std::ops::Range<usize>| {
        let (mut plain, flagged) = (h.votes(block, &[]), h.votes(block, &[id]));
        seats.for_each(|seat| plain[seat] = flagged[seat].clone());
        BlockParts { votes: plain, ..BlockParts::default() }
    };
    let block = h.idle(published, 0, None, flags(&h, published, 0..2));
    let two = h.import(block).unwrap().hash;
    assert_eq!((status(&h, two, id).phase, status(&h, two, id).ready.len()), (TaskPhase::Pending, 2));
    // The same two again are no third.
    let block = h.idle(two, 0, None, flags(&h, two, 0..2));
    let still = h.import(block).unwrap().hash;
    assert_eq!(status(&h, still, id).phase, TaskPhase::Pending);
    let block = h.idle(still, 0, None, flags(&h, still, 2..3));
    let open = h.import(block).unwrap().hash;
    let opened = status(&h, open, id);
    assert_eq!((opened.phase, opened.opened, opened.ready.len()), (TaskPhase::Open, 4, 0));
    assert_eq!(h.interval(open).task, id);
}

#[test]
fn a_task_that_never_opens_gets_its_money_back() {
    let mut h = harness();
    let (task, keys) = h.task(2);
    let (publish, id) = h.publish(7, 0, task, keys);
    let fee = publish.message.fee;
    let (mut head, _) = {
        let g = h.genesis();
        idle_with(&mut h, g, vec![publish])
    };
    let timeout = h.chain.spec().tasks.open_timeout;
    for height in 2..=timeout + 1 {
        assert_eq!(status(&h, head, id).phase, TaskPhase::Pending, "height {height}");
        head = idle_with(&mut h, head, vec![]).0;
    }
    assert_eq!(status(&h, head, id).phase, TaskPhase::Cancelled);
    assert_eq!(h.account(head, 7).balance.0, BALANCE.0 - fee.0);
    assert_eq!(h.chain.state(&head).unwrap().live_tasks().unwrap(), []);
}

#[test]
fn cancelling_returns_the_unspent_and_acts_from_the_next_interval() {
    let mut h = harness();
    let (id, parent) = h.open_task(h.genesis(), 7, 3);
    let stranger = h.transaction(6, 0, TransactionKind::Cancel(id));
    let unknown = h.transaction(6, 0, TransactionKind::Cancel(podl_chain_spec::Hash32([1; 32])));
    let cancel = h.transaction(7, 1, TransactionKind::Cancel(id));
    let again = h.transaction(7, 2, TransactionKind::Cancel(id));
    let before = h.account(parent, 7).balance;
    // The round of this very block is still scored and paid.
    let parts = BlockParts { transactions: vec![stranger, unknown, cancel.clone(), again], ..h.parts(parent) };
    let round = h.commit(parent, 4, 20);
    let interval = h.interval(parent);
    let closings = h.closings(parent, &interval.seats, std::slice::from_ref(&round));
    let key = h.shard_key(&interval);
    let built = h.chain.build_scored(parent, account(4), parts, closings, round.opening, key).unwrap();
    let reasons: Vec<_> = built.left_out.iter().map(|(_, reason)| reason.clone()).collect();
    let closed = TransactionError::Closed { task: id, phase: TaskPhase::Cancelled };
    assert_eq!(reasons[0], TransactionError::NotPublisher { task: id }.into());
    assert!(matches!(&reasons[1], LeftOut::Execute(TransactionError::UnknownTask(_))));
    assert_eq!(reasons[2], closed.into());
    let block = built.sign(&crate::testkit::signing_key(4));
    let head = h.import(block).unwrap().hash;
    let reward = h.chain.spec().money.min_reward.0;
    assert_eq!(h.account(head, 7).balance.0, before.0 - cancel.message.fee.0 + 3 * reward);
    assert_eq!(status(&h, head, id).phase, TaskPhase::Cancelled);
    assert!(h.interval(head).is_filler());
}

#[test]
fn transactions_need_their_nonce_and_their_funds() {
    let mut h = harness();
    let genesis = h.genesis();
    let offered = vec![
        h.transaction(4, 1, transfer(20, 5)),
        h.transaction(4, 0, transfer(20, BALANCE.0)),
        h.transaction(4, 0, transfer(20, u64::MAX)),
        h.transaction(4, 0, transfer(20, 5)),
        h.transaction(4, 0, transfer(20, 5)),
        h.transaction(4, 1, transfer(4, 7)),
        h.transaction(30, 0, transfer(4, 7)),
    ];
    let fees: u64 = [3, 5].iter().map(|i: &usize| offered[*i].message.fee.0).sum();
    let (head, left_out) = idle_with(&mut h, genesis, offered);
    assert!(matches!(left_out[0], LeftOut::Execute(TransactionError::Nonce { got: 1, expected: 0, .. })));
    assert!(matches!(left_out[1], LeftOut::Execute(TransactionError::Funds { got: BALANCE, .. })));
    assert!(matches!(left_out[2], LeftOut::Execute(TransactionError::Overflow)));
    assert!(matches!(left_out[3], LeftOut::Execute(TransactionError::Nonce { got: 0, expected: 1, .. })));
    assert!(matches!(left_out[4], LeftOut::Execute(TransactionError::Funds { got: Amount(0), .. })));
    assert_eq!((h.account(head, 4).balance.0, h.account(head, 4).nonce), (BALANCE.0 - 5 - fees, 2));
    assert_eq!(h.account(head, 20).balance, Amount(5));
    // Seat 1 produced block 1.
    assert_eq!(h.account(head, 1).balance.0, BALANCE.0 + fees);
}

#[test]
fn a_batch_pays_everybody_or_nobody() {
    let mut h = harness();
    let mut payments: Vec<Payment> =
        [5, 6, 20].iter().map(|to| Payment { to: account(*to), amount: Amount(10) }).collect();
    payments.push(Payment { to: account(4), amount: Amount(1) });
    payments.sort_by_key(|payment| payment.to);
    let batch = |payments: Vec<Payment>| {
        let zero = podl_chain_spec::Hash32::ZERO;
        TransactionKind::BatchPayout(BatchPayment { block: zero, shares_root: zero, payments })
    };
    let good = h.transaction(4, 0, batch(payments.clone()));
    payments[0].amount = BALANCE;
    let bad = h.transaction(4, 1, batch(payments));
    let fee = good.message.fee;
    let genesis = h.genesis();
    let (head, left_out) = idle_with(&mut h, genesis, vec![good, bad]);
    assert!(matches!(left_out[..], [LeftOut::Execute(TransactionError::Funds { .. })]));
    assert_eq!(h.account(head, 4).balance.0, BALANCE.0 - 30 - fee.0);
    assert_eq!((h.account(head, 5).balance.0, h.account(head, 20).balance.0), (BALANCE.0 + 10, 10));
}

#[test]
fn publishing_escrows_everything_and_the_number_of_live_tasks_is_bounded() {
    let mut spec = small_spec(4, 8);
    spec.tasks.live_tasks = 1;
    let mut h = Harness::new(spec);
    let (one, keys) = h.task(2);
    let (two, more) = h.task(2);
    let (one, id) = h.publish(7, 0, one, keys);
    let (two, _) = h.publish(6, 0, two, more);
    let fee = one.message.fee;
    let genesis = h.genesis();
    let (head, left_out) = idle_with(&mut h, genesis, vec![one, two.clone()]);
    assert!(matches!(left_out[..], [LeftOut::Execute(TransactionError::LiveTasks { got: 1, limit: 1 })]));
    let reward = h.chain.spec().money.min_reward.0;
    assert_eq!(h.account(head, 7).balance.0, BALANCE.0 - 3 * reward - fee.0);
    let published = status(&h, head, id);
    assert_eq!((published.escrow.0, published.bond.0, published.next_round), (2 * reward, reward, 1));
    assert!(published.difficulty > 0);
    // Once the first is cancelled there is room.
    let cancel = h.transaction(7, 1, TransactionKind::Cancel(id));
    let (head, left_out) = idle_with(&mut h, head, vec![cancel, two]);
    assert_eq!(left_out, []);
    assert_eq!(h.chain.state(&head).unwrap().live_tasks().unwrap().len(), 1);
}

#[test]
fn a_full_block_leaves_the_rest_out() {
    let mut spec = small_spec(4, 8);
    spec.limits.block_transactions = 2;
    let mut h = Harness::new(spec);
    let offered = (0..4).map(|nonce| h.transaction(4, nonce, transfer(20, 5))).collect();
    let genesis = h.genesis();
    let (_, left_out) = idle_with(&mut h, genesis, offered);
    assert_eq!(left_out, [LeftOut::Full, LeftOut::Full]);
}

#[test]
fn of_two_open_tasks_the_better_paid_runs_and_waiting_turns_it() {
    let mut h = harness();
    let reward = h.chain.spec().money.min_reward;
    let (cheap, cheap_keys) = h.task(3);
    let (mut dear, dear_keys) = h.task(3);
    (dear.reward, dear.bond) = (Amount(reward.0 * 3), Amount(reward.0 * 3));
    let (cheap, cheap_id) = h.publish(7, 0, cheap, cheap_keys);
    let (dear, dear_id) = h.publish(6, 0, dear, dear_keys);
    let genesis = h.genesis();
    let (published, _) = idle_with(&mut h, genesis, vec![cheap, dear]);
    let mut ids = [cheap_id, dear_id];
    ids.sort_unstable();
    let votes = h.votes(published, &ids);
    let block = h.idle(published, 0, None, BlockParts { votes, ..BlockParts::default() });
    let mut head = h.import(block).unwrap().hash;
    assert_eq!(h.interval(head).task, dear_id);
    head = h.advance(head, 4, 20, vec![]);
    assert_eq!(h.interval(head).task, dear_id, "one interval is too little to age by a factor of 3");
    // After the cheap one waited for two halvings and the dear one's clock was set back by its round.
    let aging = h.chain.spec().tasks.aging_intervals;
    let mut correct = 20;
    while h.interval(head).task == dear_id && h.interval(head).height < 3 * aging {
        let idle = h.idle(head, 0, None, h.parts(head));
        head = h.import(idle).unwrap().hash;
        if h.interval(head).height == 2 * aging {
            correct += 1;
            head = h.advance(head, 4, correct, vec![]);
        }
    }
    assert_eq!(h.interval(head).task, cheap_id);
}

#[test]
fn locks_are_few_however_often_an_account_wins() {
    let mut spec = small_spec(1, 8);
    spec.seats.unbond_intervals = 1000;
    for height in 1..3000 {
        let until = unlock_height(&spec, height);
        assert!(until >= height + 1000 && until < height + 1000 + 32);
        assert_eq!(until % 32, 0);
    }
    spec.seats.unbond_intervals = u64::MAX;
    assert_eq!(unlock_height(&spec, 5), u64::MAX);
}
