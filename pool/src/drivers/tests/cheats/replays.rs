//! Audits: what a failed one costs, and when false work is handed in so that none comes.

use super::*;

#[test]
fn a_failed_audit_costs_all_that_is_not_proved() {
    let pool = Pool::with(1, |params| (params.audits.queue, params.exploit) = (1, false));
    let (_honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let proved = cheater.work();
    pool.until("pay", || pool.window_macs(2) > 0 && pool.manager.overview().pending_evaluations == 0);
    // True and false work at once, more than waits to be replayed, until some of the false is.
    let mut handed_in = Vec::new();
    for cheats in [false, true, true].into_iter().cycle().take(60) {
        if pool.audits().failed > 0 {
            break;
        }
        let lease = cheater.lease();
        let step =
            if cheats { underwork(&mut cheater, &lease) } else { cheater.train(&lease, 0, lease.work[0].images) };
        pool.pass(cheater.ms(&step));
        handed_in.push((cheats, step));
        let (_, step) = handed_in.last().unwrap();
        if cheater.submit(step) == Some(Refusal::Suspended) {
            handed_in.pop();
            break;
        }
    }
    pool.until("a replay fails", || pool.audits().failed > 0);
    is_punished(&pool, &cheater, honest_macs);
    // Its last results are replayed; those that were trained stay.
    pool.until("false work is dropped", || {
        let roots = pool.elite_roots();
        handed_in.iter().all(|(cheats, step)| !cheats || !roots.contains(&step.share.artefact.root))
    });
    assert!(pool.elite_roots().contains(&proved[0].share.artefact.root));
}

#[test]
fn false_work_at_the_end_of_an_interval_is_replayed_in_the_next() {
    let pool = Pool::with(2, |params| params.exploit = false);
    let (mut honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    cheater.work();
    pool.settle();
    assert!(pool.window_macs(2) > 0, "it is trusted");
    let next = pool.interval(2);
    let others = honest.lease();
    let first = honest.train_all(&others);
    let lease = cheater.lease();
    let last = lease.work.len() - 1;
    assert!(last > 0, "two networks");
    let replayed = cheater.train(&lease, last, lease.work[last].images);
    let lies = underwork(&mut cheater, &lease);
    pool.pass((cheater.ms(&replayed) + cheater.ms(&lies)) / 2);
    // While the first are replayed the last waits, and the data change.
    first.iter().for_each(|step| assert_eq!(honest.submit(step), None));
    assert_eq!((cheater.submit(&replayed), cheater.submit(&lies)), (None, None));
    pool.start(next, 60_000);
    pool.until("the replay", || pool.audits().failed > 0);
    is_punished(&pool, &cheater, honest_macs + honest.sum(&first));
}

#[test]
fn a_state_that_comes_after_its_interval_proves_nothing_by_itself() {
    let pool = Pool::new(3);
    let (_honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let lease = cheater.lease();
    let images = lease.work[0].images / 2;
    let first = cheater.train(&lease, 0, images);
    let mut lies = cheater.go_on(&lease, 0, 16, &first);
    (lies.share.images, lies.share.ordered) = (images / 16 * 16, images);
    pool.pass((cheater.ms(&first) + cheater.ms(&lies)) / 2);
    let claim = |step: &Step| Request::Submit { share: step.share.clone(), inline: Some(step.bytes.clone()) };
    cheater.ask(&claim(&first));
    let wanted = match cheater.ask(&claim(&lies)) {
        Reply::Ack { audit: Some(state), .. } => state,
        other => panic!("{other:?}"),
    };
    pool.count();
    let failed = pool.audits().failed;
    pool.begin(2, 60_000);
    assert_eq!(cheater.upload(wanted, lies.start.as_ref().unwrap()), None);
    pool.until("the replay", || pool.audits().failed > failed);
    is_punished(&pool, &cheater, honest_macs);
}

#[test]
fn results_of_the_last_moment_are_counted_on_their_own_data() {
    let pool = Pool::new(4);
    let (mut honest, honest_macs) = with_honest(&pool);
    let next = pool.interval(2);
    let lease = honest.lease();
    let steps = honest.train_all(&lease);
    honest.spend(honest.sum(&steps) * 1000 / SPEED);
    steps.iter().for_each(|step| assert_eq!(honest.submit(step), None));
    pool.start(next, 60_000);
    pool.settle();
    assert_eq!((pool.standing(1).rejected, pool.audits().failed), (0, 0));
    assert_eq!(pool.window_macs(1), honest_macs + honest.sum(&steps));
}
