//! What the manager tells the books.

use super::*;
use crate::ledger::{Luck, ShareList};

fn won(pool: &mut Pool, height: u8, model: Option<Hash32>) -> ShareList {
    let won = WonBlock { block: Hash32([200 + height; 32]), height: height.into(), reward: Amount(1_000_000), model };
    pool.tell(Event::BlockWon(won));
    pool.manager.ledger().list(&won.block).unwrap().clone()
}

#[test]
fn the_miner_of_the_committed_model_finds_the_block() {
    let mut pool = Pool::new(2);
    pool.manager.params.pay = PayScheme::Pplns { window: 4, finder_basis_points: 500 };
    let model = pool.work(1, 40, 150).artefact.root;
    pool.work(2, 30, 120);
    assert_eq!(pool.commits(), [(model, 1)]);
    let list = won(&mut pool, 1, Some(model));
    assert_eq!(list.finder, Some(id(1)));
    let bonus: Vec<u64> = list.rows.iter().map(|row| row.bonus.0).collect();
    assert_eq!(bonus, [49_000, 0], "a twentieth of what the fee leaves");
    let standing = pool.manager.standing(&id(1));
    assert!(standing.window_macs > 0 && standing.pool_window_macs > standing.window_macs, "still in the window");
}

#[test]
fn work_is_in_the_window_for_four_intervals() {
    let mut pool = Pool::new(1);
    pool.work(1, 40, 150);
    let workload = pool.manager.search().unwrap().interval.workload.clone();
    for height in 2..=5 {
        pool.now_ms += 60_000;
        pool.begin(height, &workload, None);
        assert_eq!(pool.manager.standing(&id(1)).window_macs > 0, height < 5, "interval {height}");
    }
    let Reply::Goodbye { window_macs } = pool.ask(1, Ask::Leave) else { panic!("no goodbye") };
    assert_eq!(window_macs, 0);
}

#[test]
fn pay_by_performance_counts_images_above_chance() {
    let mut pool = Pool::new(2);
    pool.manager.set_params(PoolParams { pay: PayScheme::Performance, ..pool.manager.params().clone() });
    // Of 400 hold-out images 40 are chance.
    let model = pool.work(1, 40, 140).artefact.root;
    pool.work(2, 40, 240);
    let list = won(&mut pool, 1, Some(model));
    let points: Vec<u64> = list.rows.iter().map(|row| row.points).collect();
    assert_eq!(points, [1000, 2000], "ten classes: a hundred and two hundred images");
    assert_eq!(list.rows.iter().map(|row| row.amount.0).collect::<Vec<_>>(), [326_667, 653_333]);
    let again: Manager = postcard::from_bytes(&postcard::to_stdvec(&pool.manager).unwrap()).unwrap();
    assert_eq!(again, pool.manager);
}

#[test]
fn a_miner_sees_what_is_pending_and_after_that_what_it_was_paid() {
    let mut pool = Pool::new(2);
    let model = pool.work(1, 40, 150).artefact.root;
    pool.work(2, 30, 120);
    assert_eq!(pool.manager.standing(&id(1)).next_payment, None, "no reward is known yet");
    let list = won(&mut pool, 1, Some(model));
    let own = list.rows[0].amount;
    let standing = pool.manager.standing(&id(1));
    assert_eq!((standing.pending, standing.paid), (own, Amount::ZERO));
    assert_eq!((standing.luck, standing.window_intervals), (Luck { won: 1, intervals: 1 }, 4));
    let again = WonBlock { block: list.block, height: 1, reward: Amount(1), model: None };
    pool.tell(Event::BlockWon(again));
    for _ in 0..2 {
        pool.tell(Event::BlockFinal { block: list.block });
    }
    let standing = pool.manager.standing(&id(1));
    assert_eq!((standing.pending, standing.paid), (Amount::ZERO, own), "once, however often it is told");
    assert!(own > Amount::ZERO && standing.next_payment.unwrap().0.abs_diff(own.0) <= 1, "the window is the same");
    let restored: Manager = postcard::from_bytes(&postcard::to_stdvec(&pool.manager).unwrap()).unwrap();
    assert_eq!(restored.standing(&id(1)), standing);
    let stranger = pool.manager.standing(&id(9));
    assert_eq!(
        (stranger.paid, stranger.luck, stranger.next_payment),
        (Amount::ZERO, standing.luck, Some(Amount::ZERO))
    );
}
