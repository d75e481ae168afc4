//! The books: what they pay, to whom, and that nothing shakes them.

mod checks;
mod hopping;

use podl_chain_spec::Hash32;
use proptest::prelude::*;

use super::*;

const REWARD: Amount = Amount(1_000_003);

fn miner(i: u8) -> MinerId {
    MinerId(Hash32([i; 32]))
}

fn account(i: u8) -> AccountId {
    AccountId([i; 32])
}

fn block(i: u8) -> BlockHash {
    Hash32([i; 32])
}

fn pplns(window: u16, finder_basis_points: u16) -> PayTerms {
    PayTerms { fee_basis_points: 200, scheme: PayScheme::Pplns { window, finder_basis_points } }
}

const PERFORMANCE: PayTerms = PayTerms { fee_basis_points: 200, scheme: PayScheme::Performance };

fn won(height: u8) -> WonBlock {
    WonBlock {
        block: block(height),
        height: height.into(),
        reward: REWARD,
        model: Some(block(height.wrapping_add(100))),
    }
}

fn amounts(list: &ShareList) -> Vec<(MinerId, u64, u64)> {
    list.rows.iter().map(|row| (row.miner, row.macs, row.amount.0)).collect()
}

/// Books in the interval of height 1.
fn books(terms: PayTerms) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.begin(1, terms.scheme);
    ledger
}

#[test]
fn a_reward_is_shared_by_work_and_paid_when_final() {
    let terms = pplns(4, 0);
    let mut ledger = books(terms);
    for (who, to, macs) in [(1, 1, 600), (2, 2, 300), (3, 2, 100), (4, 9, 0)] {
        ledger.credit(miner(who), account(to), macs);
    }
    let reward = Amount(1_000_000);
    ledger.close(&WonBlock { reward, ..won(1) }, terms);
    let list = ledger.settle(&block(1)).unwrap().clone();
    assert_eq!((list.fee, list.rows.len()), (Amount(20_000), 3), "no row for nothing");
    let batch = list.batch(&account(9)).unwrap();
    let paid: Vec<_> = batch.payments.iter().map(|p| (p.to, p.amount.0)).collect();
    assert_eq!(paid, [(account(1), 588_000), (account(2), 392_000)], "two miners of one account are one payment");
    assert_eq!(batch.shares_root, list.root());
    assert!(ledger.settle(&block(1)).is_none(), "never paid twice");
    assert_eq!(list.batch(&account(1)).unwrap().payments.len(), 1, "the manager sends nothing to itself");
}

#[test]
fn work_is_paid_by_every_block_in_its_window_and_by_none_after() {
    let terms = pplns(2, 0);
    let mut ledger = books(terms);
    ledger.credit(miner(1), account(1), 100);
    for height in 1..=4u8 {
        ledger.begin(height.into(), terms.scheme);
        ledger.credit(miner(2), account(2), 100);
        ledger.close(&won(height), terms);
    }
    let of = |height| amounts(ledger.list(&block(height)).unwrap());
    assert_eq!(of(1), [(miner(1), 100, 490_002), (miner(2), 100, 490_001)]);
    assert_eq!(of(2), [(miner(1), 100, 326_668), (miner(2), 200, 653_335)], "a third: its own window of two intervals");
    assert_eq!(of(3), [(miner(2), 200, 980_003)]);
    assert_eq!(of(3), of(4), "a pool that wins every block pays every piece of work twice, half each time");
    assert_eq!((ledger.window_macs(&miner(1), terms.scheme), ledger.window_macs(&miner(2), terms.scheme)), (0, 100));
}

#[test]
fn intervals_that_win_nothing_age_work_as_those_that_do() {
    let terms = pplns(3, 0);
    let run = |wins: &[u8]| {
        let mut ledger = books(terms);
        ledger.credit(miner(1), account(1), 100);
        for height in 2..=5u8 {
            ledger.begin(height.into(), terms.scheme);
            ledger.credit(miner(2), account(2), 100);
            if wins.contains(&height) {
                ledger.close(&won(height), terms);
            }
        }
        ledger
    };
    for wins in [&[2u8, 3, 4, 5][..], &[3], &[4], &[5]] {
        for height in wins {
            let ledger = run(wins);
            let has_first = ledger.list(&block(*height)).unwrap().rows.iter().any(|row| row.miner == miner(1));
            assert_eq!(has_first, *height <= 3, "{wins:?}");
        }
    }
}

#[test]
fn the_finder_has_its_bonus_and_the_pool_has_it_when_nobody_is_known() {
    let terms = pplns(4, 500);
    let mut ledger = books(terms);
    ledger.credit(miner(1), account(1), 100);
    ledger.credit(miner(2), account(2), 100);
    ledger.note_model(block(101), miner(1), account(1));
    // A model of an earlier interval whose miner has no work in the window.
    ledger.note_model(block(77), miner(3), account(3));
    let list = |ledger: &Ledger, model| {
        let mut ledger = ledger.clone();
        ledger.close(&WonBlock { model, ..won(1) }, terms);
        ledger.list(&block(1)).unwrap().clone()
    };
    let (fee, bonus) = (20_000, 49_000);
    let own = list(&ledger, Some(block(101)));
    let half = (REWARD.0 - fee - bonus) / 2;
    assert_eq!(own.rows.iter().map(|r| r.bonus.0).collect::<Vec<_>>(), [bonus, 0]);
    assert_eq!(amounts(&own), [(miner(1), 100, half + 1 + bonus), (miner(2), 100, half)]);
    let absent = list(&ledger, Some(block(77)));
    assert_eq!(amounts(&absent)[2], (miner(3), 0, bonus));
    for model in [None, Some(block(55))] {
        let pooled = list(&ledger, model);
        assert_eq!((pooled.finder, pooled.rows.len()), (None, 2));
        assert_eq!(pooled.rows.iter().map(|r| r.amount.0).sum::<u64>() + pooled.fee.0, REWARD.0);
    }
    ledger.forfeit(&miner(1));
    let lied = list(&ledger, Some(block(101)));
    assert_eq!(amounts(&lied), [(miner(2), 100, REWARD.0 - fee)], "a lie costs the bonus too");
    let greedy = PayTerms { scheme: PayScheme::Pplns { window: 0, finder_basis_points: 9_999 }, ..terms };
    assert_eq!((greedy.bonus(Amount(100_000)).0, greedy.scheme.window()), (9_800, 1), "a tenth at most");
}

#[test]
fn a_lie_costs_everything_in_the_window_and_nothing_that_was_won() {
    let terms = pplns(3, 0);
    let mut ledger = books(terms);
    ledger.credit(miner(1), account(1), 10);
    ledger.credit(miner(2), account(2), 10);
    ledger.close(&won(1), terms);
    let before = ledger.list(&block(1)).unwrap().clone();
    ledger.begin(2, terms.scheme);
    ledger.credit(miner(1), account(1), 10);
    assert_eq!(ledger.forfeit(&miner(1)), 20);
    assert_eq!(ledger.window_macs(&miner(1), terms.scheme), 0);
    ledger.close(&won(2), terms);
    assert_eq!(amounts(ledger.list(&block(2)).unwrap()), [(miner(2), 10, 980_003)]);
    assert_eq!(ledger.list(&block(1)), Some(&before));
}

#[test]
fn a_block_that_leaves_the_chain_leaves_no_trace() {
    let terms = pplns(2, 500);
    let run = |detour: bool| {
        let mut ledger = books(terms);
        ledger.credit(miner(1), account(1), 10);
        if detour {
            ledger.close(&won(1), terms);
            // The pool works on its own block for a while, then another branch of that height wins.
            ledger.begin(2, terms.scheme);
            assert!(ledger.reopen(&block(1)) && !ledger.reopen(&block(1)));
            assert!(ledger.settle(&block(1)).is_none());
            ledger.begin(1, terms.scheme);
        }
        ledger.credit(miner(2), account(2), 30);
        ledger.close(&WonBlock { block: block(50), ..won(1) }, terms);
        ledger.begin(2, terms.scheme);
        ledger.credit(miner(1), account(1), 5);
        ledger.close(&won(2), terms);
        ledger
    };
    assert_eq!(run(true), run(false));
    assert_eq!(amounts(run(true).list(&block(2)).unwrap())[0].1, 15);
}

#[test]
fn work_on_a_branch_that_lost_stays_in_the_window_of_its_height() {
    let terms = pplns(2, 0);
    let mut ledger = books(terms);
    for parent in 0..3 {
        // Three parents of height 2 after each other: one chance.
        ledger.begin(2, terms.scheme);
        ledger.credit(miner(parent), account(parent), 10);
    }
    ledger.begin(3, terms.scheme);
    ledger.close(&won(3), terms);
    assert_eq!(ledger.list(&block(3)).unwrap().rows.len(), 3);
}

#[test]
fn telling_again_of_blocks_changes_nothing_however_long_ago() {
    let terms = pplns(4, 500);
    let mut ledger = books(terms);
    for height in 1..=200u8 {
        ledger.begin(height.into(), terms.scheme);
        ledger.credit(miner(1), account(1), 10);
        ledger.close(&won(height), terms);
        ledger.settle(&block(height));
    }
    let before = ledger.clone();
    for height in 1..=200 {
        ledger.close(&won(height), terms);
        assert!(ledger.settle(&block(height)).is_none());
    }
    assert_eq!(ledger, before);
    assert!(ledger.pending().is_empty());
    assert_eq!(ledger.paid().len(), KEPT_LISTS);
}

#[test]
fn what_is_verified_after_the_win_waits_for_the_next_chance() {
    let terms = pplns(2, 0);
    let mut ledger = books(terms);
    ledger.credit(miner(1), account(1), 10);
    ledger.close(&won(1), terms);
    ledger.credit(miner(2), account(2), 10);
    for height in 2..=4 {
        ledger.begin(height.into(), terms.scheme);
        ledger.credit(miner(3), account(3), 10);
        ledger.close(&won(height), terms);
    }
    let paid = |height| ledger.list(&block(height)).unwrap().rows.iter().any(|row| row.miner == miner(2));
    assert_eq!([1, 2, 3, 4].map(paid), [false, true, true, false], "two chances, like all work");
}

#[test]
fn the_last_account_of_a_miner_is_paid() {
    let terms = pplns(4, 0);
    let mut ledger = books(terms);
    ledger.credit(miner(1), account(1), 10);
    ledger.begin(2, terms.scheme);
    ledger.credit(miner(1), account(2), 10);
    ledger.close(&won(2), terms);
    assert_eq!(ledger.list(&block(2)).unwrap().rows[0].account, account(2));
}

#[test]
fn performance_pays_the_best_confirmed_models_of_the_interval() {
    let mut ledger = books(PERFORMANCE);
    ledger.credit(miner(9), account(9), 1_000_000);
    ledger.note_points(miner(9), account(9), 700);
    ledger.begin(2, PERFORMANCE.scheme);
    for (who, points) in [(1, 300), (1, 200), (2, 100)] {
        ledger.credit(miner(who), account(who), 5);
        ledger.note_points(miner(who), account(who), points);
    }
    ledger.credit(miner(3), account(3), 1_000_000);
    ledger.note_model(block(102), miner(2), account(2));
    ledger.close(&won(2), PERFORMANCE);
    let list = ledger.list(&block(2)).unwrap();
    assert_eq!(amounts(list), [(miner(1), 10, 735_002), (miner(2), 5, 245_001)]);
    assert_eq!(check_list(list), []);
    // Why it is not the default: the same model under three names is paid three times.
    let mut split = books(PERFORMANCE);
    for who in [1, 2, 3, 4] {
        split.note_points(miner(who), account(who), if who == 4 { 100 } else { 300 });
    }
    split.close(&won(1), PERFORMANCE);
    let gained: u64 = amounts(split.list(&block(1)).unwrap())[..3].iter().map(|(_, _, amount)| amount).sum();
    assert_eq!(gained, 882_003, "735,002 under one name");
}

#[test]
fn a_miner_can_see_what_it_has_pending_and_what_the_next_block_would_pay_it() {
    for terms in [pplns(4, 500), pplns(2, 0), PERFORMANCE] {
        let mut ledger = books(terms);
        ledger.credit(miner(1), account(1), 300);
        ledger.note_points(miner(1), account(1), 50);
        ledger.credit(miner(2), account(2), 100);
        ledger.note_points(miner(2), account(2), 200);
        assert_eq!(ledger.next_payment(&miner(1), terms), None, "no reward is known");
        ledger.close(&WonBlock { model: None, ..won(1) }, terms);
        ledger.begin(2, terms.scheme);
        ledger.credit(miner(2), account(2), 5);
        ledger.note_points(miner(2), account(2), 90);
        ledger.note_points(miner(1), account(1), 30);
        let before = [1, 2, 3].map(|who| ledger.next_payment(&miner(who), terms).unwrap().0);
        assert_eq!(before[2], 0, "no work");
        // The finder of the next block is a third miner, so that a bonus, if any, is nobody's of these two.
        ledger.note_model(block(102), miner(3), account(3));
        ledger.close(&won(2), terms);
        for (index, who) in [1, 2].into_iter().enumerate() {
            let rows = |height| amounts(ledger.list(&block(height)).unwrap());
            let of = |height| rows(height).into_iter().find(|row| row.0 == miner(who)).map_or(0, |row| row.2);
            assert!(of(2).abs_diff(before[index]) <= 1, "{} for {}", of(2), before[index]);
            assert_eq!(ledger.pending_of(&miner(who)), Amount(of(1) + of(2)));
        }
        let both = ledger.pending_of(&miner(1));
        ledger.settle(&block(1));
        ledger.reopen(&block(2));
        assert!(both > Amount::ZERO && ledger.pending_of(&miner(1)) == Amount::ZERO);
    }
}

#[test]
fn luck_counts_intervals_that_are_over_and_were_worked_on() {
    let terms = pplns(2, 0);
    let mut ledger = books(terms);
    assert_eq!(ledger.luck(), Luck::default());
    for height in 1..=10u8 {
        ledger.begin(height.into(), terms.scheme);
        // Nobody works in the fifth, and the tenth is not over.
        if height != 5 {
            ledger.credit(miner(1), account(1), 10);
        }
        if height % 4 == 0 {
            ledger.close(&won(height), terms);
        }
    }
    assert_eq!(ledger.luck(), Luck { won: 2, intervals: 8 });
    ledger.settle(&block(4));
    assert_eq!(ledger.luck(), Luck { won: 2, intervals: 8 }, "final");
    ledger.reopen(&block(8));
    assert_eq!(ledger.luck(), Luck { won: 1, intervals: 8 }, "left the chain");
    ledger.close(&won(10), terms);
    assert_eq!(ledger.luck(), Luck { won: 2, intervals: 9 }, "over because it is won");
    for height in 11..=200u8 {
        ledger.begin(height.into(), terms.scheme);
        ledger.credit(miner(1), account(1), 10);
        ledger.close(&won(height), terms);
        ledger.settle(&block(height));
    }
    assert_eq!(ledger.luck(), Luck { won: 64, intervals: 64 });
}

#[test]
fn extreme_weights_divide_exactly() {
    assert_eq!(divide(Amount(u64::MAX), &[u128::MAX, 1]), [Amount(u64::MAX), Amount(0)]);
    assert_eq!(divide(Amount(7), &[]), []);
    assert_eq!(divide(Amount(7), &[0, 0]), [Amount(0), Amount(0)]);
    assert_eq!(divide(Amount(10), &[1, 1, 1]), [Amount(4), Amount(3), Amount(3)]);
}

/// Work of miners over intervals: who, in which interval, how much.
fn history() -> impl Strategy<Value = Vec<(u8, u8, u64)>> {
    proptest::collection::vec((1u8..8, 1u8..12, prop_oneof![0u64..1 << 50, Just(u64::MAX)]), 0..60)
}

proptest! {
    #[test]
    fn parts_sum_to_the_total_and_are_within_one_unit(
        total in any::<u64>(),
        weights in proptest::collection::vec(any::<u64>(), 1..20),
    ) {
        let weights: Vec<u128> = weights.into_iter().map(|w| u128::from(w) >> 5).collect();
        let sum: u128 = weights.iter().sum();
        let parts = divide(Amount(total), &weights);
        let given: u128 = parts.iter().map(|p| u128::from(p.0)).sum();
        prop_assert_eq!(given, if sum == 0 { 0 } else { u128::from(total) });
        for (part, weight) in parts.iter().zip(&weights) {
            if let Some(floor) = (u128::from(total) * weight).checked_div(sum) {
                prop_assert!(u128::from(part.0) == floor || u128::from(part.0) == floor + 1);
            }
        }
    }

    #[test]
    fn every_list_gives_away_all_but_the_fee_and_checks(
        history in history(),
        window in 1u16..7,
        finder_basis_points in 0u16..2_000,
        fee_basis_points in 0u16..12_000,
        reward: u64,
        finder in 1u8..8,
    ) {
        let terms = PayTerms { fee_basis_points, scheme: PayScheme::Pplns { window, finder_basis_points } };
        let mut ledger = Ledger::default();
        for height in 1..12u8 {
            ledger.begin(height.into(), terms.scheme);
            for (who, _, macs) in history.iter().filter(|(_, at, _)| *at == height) {
                ledger.credit(miner(*who), account(*who), *macs);
            }
            ledger.note_model(block(100 + height), miner(finder), account(finder));
            ledger.close(&WonBlock { reward: Amount(reward), ..won(height) }, terms);
        }
        for list in ledger.pending() {
            let sum: u128 = list.rows.iter().map(|row| u128::from(row.amount.0)).sum();
            let bonus: u128 = list.rows.iter().map(|row| u128::from(row.bonus.0)).sum();
            let work = list.rows.iter().any(|row| row.macs > 0);
            let expected = if work { u128::from(reward - list.fee.0) } else { bonus };
            prop_assert_eq!(sum, expected);
            prop_assert!(bonus * 10 <= u128::from(reward));
            // Only the cap can be wrong in terms that no configuration allows.
            let wrong = check_list(list);
            let capped = wrong.iter().all(|d| matches!(d, Difference::FinderCap { .. }));
            prop_assert!(capped && (finder_basis_points > MOST_FINDER_BASIS_POINTS) != wrong.is_empty());
        }
    }

    #[test]
    fn splitting_into_identities_changes_rounding_only(
        own in proptest::collection::vec(0u64..1 << 40, 6),
        others in 1u64..1 << 40,
        k in 1u8..9,
        reward: u64,
    ) {
        let terms = pplns(4, 0);
        let run = |k: u8| {
            let mut ledger = Ledger::default();
            let mut paid: i128 = 0;
            for (height, macs) in (1u8..).zip(&own) {
                ledger.begin(height.into(), terms.scheme);
                for identity in 0..k {
                    let part = macs / u64::from(k) + u64::from(u64::from(identity) < macs % u64::from(k));
                    ledger.credit(miner(identity + 1), account(1), part);
                }
                ledger.credit(miner(200), account(2), others);
                ledger.close(&WonBlock { reward: Amount(reward), ..won(height) }, terms);
                let rows = &ledger.list(&block(height)).unwrap().rows;
                paid += rows.iter().filter(|r| r.account == account(1)).map(|r| i128::from(r.amount.0)).sum::<i128>();
            }
            paid
        };
        let gained = run(k) - run(1);
        // Rounding moves less than one unit an identity and block.
        prop_assert!(gained.abs() <= i128::from(k) * 6, "{gained}");
    }

    #[test]
    fn books_survive_the_journal_and_go_on_alike(history in history(), cut in 0usize..60) {
        let terms = pplns(3, 500);
        let step = |ledger: &mut Ledger, (who, height, macs): (u8, u8, u64)| {
            ledger.begin(height.into(), terms.scheme);
            ledger.credit(miner(who), account(who), macs);
            ledger.note_points(miner(who), account(who), macs / 2);
            ledger.note_model(block(100 + height), miner(who), account(who));
            match macs % 5 {
                0 => ledger.close(&won(height), terms),
                1 => drop(ledger.reopen(&block(height))),
                2 => drop(ledger.settle(&block(height))),
                _ => {}
            }
        };
        let mut live = Ledger::default();
        let mut restored = Ledger::default();
        for (number, entry) in history.into_iter().enumerate() {
            if number == cut {
                restored = postcard::from_bytes(&postcard::to_stdvec(&restored).unwrap()).unwrap();
            }
            step(&mut live, entry);
            step(&mut restored, entry);
        }
        prop_assert_eq!(live, restored);
    }
}
