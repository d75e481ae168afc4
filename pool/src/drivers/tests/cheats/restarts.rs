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
