//! Who a miner is and how fast: calibrations, many names, coming and going.

use std::collections::VecDeque;

use super::*;
use crate::types::Class;

#[test]
fn an_answer_that_another_worked_out_makes_nobody_strong_for_long() {
    let pool = Pool::new(1);
    let (mut honest, mut honest_macs) = with_honest(&pool);
    assert_eq!(honest.refusal(&Request::Calibrated { seed: [0; 32], digest: Hash32::ZERO }), CALIBRATION_FAILED);
    // Its answer comes from a machine twenty times as fast.
    let mut cheater = Client::join(&pool, 2, SPEED * 20);
    cheater.macs_s = SPEED / 3;
    assert_eq!((pool.standing(2).class, pool.standing(1).class), (Class::Strong, Class::Weak));
    let (mut budgets, mut macs) = (Vec::new(), 0);
    for _ in 0..14 {
        let lease = cheater.lease();
        budgets.push(lease.budget_macs);
        let step = cheater.train(&lease, 0, lease.work[0].images.min(128));
        // It does what it can: a lease has its time.
        cheater.spend(cheater.ms(&step).max(lease.wall_ms));
        assert_eq!(cheater.submit(&step), None);
        pool.count();
        macs += cheater.macs(&step);
    }
    pool.settle();
    let steps = honest.work();
    honest_macs += honest.sum(&steps);
    pool.settle();
    pool.begin(2, 60_000);
    let (slow, fast) = (pool.standing(2), pool.standing(1));
    assert_eq!((slow.class, fast.class), (Class::Weak, Class::Strong), "{slow:?} {fast:?}");
    assert!(budgets[0] > budgets[13] * 8, "{budgets:?}");
    assert_eq!((pool.window_macs(2), pool.window_macs(1)), (macs, honest_macs), "paid for work, not for speed");
}

const CALIBRATION_FAILED: Option<Refusal> = Some(Refusal::CalibrationFailed);

/// One name of a machine, at work.
struct Worker<'a> {
    client: Client<'a>,
    steps: VecDeque<Step>,
    ready_ms: u64,
}

impl<'a> Worker<'a> {
    fn new(client: Client<'a>) -> Self {
        let ready_ms = client.pool.now_ms();
        Self { client, steps: VecDeque::new(), ready_ms }
    }

    /// Hands in what is done and begins the next network.
    fn advance(&mut self) {
        if let Some(step) = self.steps.pop_front() {
            assert_eq!(self.client.submit(&step), None);
        }
        if self.steps.is_empty() {
            let Ok(lease) = self.client.try_lease() else {
                self.ready_ms = u64::MAX;
                return;
            };
            self.steps = self.client.train_all(&lease).into();
        }
        self.ready_ms = self.client.pool.now_ms() + self.steps.front().map_or(0, |step| self.client.ms(step));
    }
}

/// Miners work side by side until there are no leases any more.
fn work_side_by_side(pool: &Pool, workers: &mut [Worker<'_>]) {
    while let Some(next) = workers.iter_mut().filter(|w| w.ready_ms < u64::MAX).min_by_key(|w| w.ready_ms) {
        pool.pass(next.ready_ms.saturating_sub(pool.now_ms()));
        next.advance();
        pool.count();
    }
}

#[test]
fn three_names_of_one_machine_earn_what_the_machine_does() {
    let pool = Pool::with(2, |params| {
        params.always_check = 2;
        params.exploit = false;
        params.heartbeat.every_ms = 2000;
        // Nobody reports progress here, so that every lease looks late.
        params.backups_permille = 0;
    });
    // The end of a phase cuts off up to three seconds of a slow name's last network: little beside the rest.
    pool.begin(1, 160_000);
    let mut workers = vec![Worker::new(Client::join(&pool, 1, SPEED))];
    workers.extend((2..=4).map(|name| Worker::new(Client::join(&pool, name, SPEED / 3))));
    workers.iter_mut().for_each(|worker| worker.ready_ms = pool.now_ms());
    work_side_by_side(&pool, &mut workers);
    pool.until("all are proved", || (1..=4).all(|name| pool.window_macs(name) > 0));
    let one = pool.window_macs(1);
    let split: u64 = (2..=4).map(|name| pool.window_macs(name)).sum();
    assert!(one.abs_diff(split) * 50 <= one, "one name {one}, three names {split}");
    let pay = pool.pay(1, 1_000_000_000);
    let paid = |names: std::ops::RangeInclusive<u8>| {
        let own = pay.iter().filter(|(account, _)| names.contains(&account.0[0]));
        own.map(|(_, amount)| amount).sum::<u64>()
    };
    let per_mac = |pay: u64, macs: u64| u128::from(pay) * 1_000_000_000_000 / u128::from(macs);
    let (whole, parts) = (per_mac(paid(1..=1), one), per_mac(paid(2..=4), split));
    assert!(whole.abs_diff(parts) * 100_000 <= whole, "for each unit of work {whole} and {parts}");
}

#[test]
fn leaving_before_the_end_and_coming_back_brings_nothing() {
    let pool = Pool::new(3);
    pool.begin(1, 60_000);
    let (mut steady, mut hopper) = (Client::join(&pool, 1, SPEED), Client::join(&pool, 2, SPEED));
    let mut worked = [0u64; 2];
    for height in 1..=3 {
        if height > 1 {
            pool.begin(height, 60_000);
        }
        let calibrates = hopper.hello();
        assert!(height == 1 || calibrates.is_none(), "its speed is known");
        let steps = hopper.work();
        worked[1] += hopper.sum(&steps);
        pool.settle();
        assert!(matches!(hopper.ask(&Request::Leave), Reply::Goodbye { window_macs } if window_macs == worked[1]));
        for _ in 0..2 {
            let steps = steady.work();
            worked[0] += steady.sum(&steps);
        }
        pool.settle();
        assert_eq!([pool.window_macs(1), pool.window_macs(2)], worked);
        let pay = pool.pay(height, 1_000_000_000);
        let expected = u128::from(worked[1]) * 980_000_000 / u128::from(worked[0] + worked[1]);
        assert!(u128::from(pay[1].1).abs_diff(expected) <= 1, "{pay:?} for {worked:?}");
        assert_eq!(pay.iter().map(|(_, amount)| amount).sum::<u64>(), 980_000_000);
    }
}

#[test]
fn a_second_name_begins_again_from_nothing() {
    let pool = Pool::new(4);
    let (_honest, honest_macs) = with_honest(&pool);
    for name in [2, 3] {
        let mut cheater = Client::join(&pool, name, SPEED);
        let lease = cheater.lease();
        let lies = underwork(&mut cheater, &lease);
        pool.pass(cheater.ms(&lies));
        let failed = pool.audits().failed;
        assert_eq!(cheater.submit(&lies), None);
        pool.until("the replay", || pool.window_macs(name) == 0 && pool.audits().failed > failed);
        assert_eq!(cheater.refusal(&Request::Lease), Some(Refusal::Suspended));
    }
    assert_eq!(pool.pay(1, 1_000_000), [(AccountId([1; 32]), 980_000)]);
    assert_eq!(pool.window_macs(1), honest_macs);
}

#[test]
fn names_that_are_never_heard_again_take_nobodys_place() {
    let pool = Pool::with(5, |params| params.max_miners = 5);
    let (mut honest, honest_macs) = with_honest(&pool);
    // Faster than any, on a machine of another, and never seen again.
    for name in [2, 3] {
        Client::join(&pool, name, SPEED * 5);
    }
    let silent: Vec<Client<'_>> = (4..=5).map(|name| Client::new(&pool, name, SPEED)).collect();
    assert!(silent.iter().all(|client| client.hello().is_some()));
    assert_eq!(pool.standing(1).class, Class::Weak);
    honest.spend(60_000);
    pool.begin(2, 60_000);
    assert_eq!(pool.standing(1).class, Class::Strong);
    assert!(honest.try_lease().is_ok());
    let mut late = Client::join(&pool, 6, SPEED / 2);
    assert!(late.try_lease().is_ok());
    assert_eq!(pool.window_macs(1), honest_macs, "whoever is owed is kept");
}
