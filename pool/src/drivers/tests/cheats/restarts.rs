//! What a manager that is stopped in the middle owes those who had handed in.

use super::floods::occupy_the_checker;
use super::*;

#[test]
fn results_that_wait_to_be_counted_are_counted_after_a_restart() {
    // The node names the same interval again, or the next round of the task.
    for is_next in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let pool = Pool::kept(21, folder.path());
        let (mut miner, before) = with_honest(&pool);
        let lease = miner.lease();
        let step = miner.train(&lease, 0, lease.work[0].images);
        let macs = miner.macs(&step);
        pool.pass(miner.ms(&step));
        occupy_the_checker(&pool, 2);
        assert_eq!(miner.submit(&step), None);
        assert_eq!(pool.manager.overview().pending_evaluations, 1);
        let (now_ms, (mut interval, blob)) = (pool.now_ms(), pool.interval(1));
        drop(pool);
        let pool = Pool::kept(21, folder.path());
        pool.pass(now_ms);
        assert_eq!((pool.manager.overview().pending_evaluations, pool.window_macs(1)), (1, before));
        std::thread::sleep(std::time::Duration::from_millis(100));
        if is_next {
            interval.parent = Hash32([77; 32]);
            interval.height += 1;
            interval.round += 1;
        }
        pool.start((interval, blob), 60_000);
        pool.count();
        assert_eq!(pool.window_macs(1), before + macs, "what was acknowledged is paid");
    }
}

#[test]
fn a_state_that_was_uploaded_is_not_asked_for_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::kept(22, folder.path());
    let (mut miner, _) = with_honest(&pool);
    let lease = miner.lease();
    let images = lease.work[0].images / 2;
    let first = miner.train(&lease, 0, images);
    let second = miner.go_on(&lease, 0, images, &first);
    pool.pass(miner.ms(&first) + miner.ms(&second));
    assert_eq!(miner.submit(&first), None);
    let claim = Request::Submit { share: second.share.clone(), inline: Some(second.bytes.clone()) };
    let Reply::Ack { audit: Some(wanted), .. } = miner.ask(&claim) else { panic!("no state is wanted") };
    let (now_ms, interval) = (pool.now_ms(), pool.interval(1));
    drop(pool);
    // Before the node names the interval there are no data to replay on.
    let pool = Pool::kept(22, folder.path());
    pool.pass(now_ms);
    let miner = Client::new(&pool, 1, SPEED);
    assert_eq!(miner.upload(wanted, second.start.as_ref().unwrap()), None);
    drop(pool);
    let pool = Pool::kept(22, folder.path());
    pool.pass(now_ms);
    // The miner never comes back, and nothing is held against it.
    pool.start(interval, 60_000);
    pool.pass(30_000);
    pool.settle();
    assert_eq!((pool.audits().failed, pool.audits().undecided, pool.standing(1).rejected), (0, 0, 0));
    assert_eq!(pool.standing(1).kept_back_macs, 0);
}
