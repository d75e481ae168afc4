//! Cheats, each tried by a real miner against a real manager: what cheaters get, and that honest miners lose nothing.
//! Others that replays find are in [`super::audits`].

mod backups;
mod claims;
mod floods;
mod identities;
mod replays;
mod restarts;

use super::client::{Client, Pool, SPEED, Step};
use super::*;

/// An honest miner has worked, and its work is proved.
fn with_honest(pool: &Pool) -> (Client<'_>, u64) {
    pool.begin(1, 60_000);
    let mut honest = Client::join(pool, 1, SPEED);
    let steps = honest.work();
    pool.settle();
    let macs = honest.sum(&steps);
    assert_eq!(pool.window_macs(1), macs);
    (honest, macs)
}

/// The cheater has nothing and is shut out; the honest miner has what it had, and is paid all but the fee.
fn is_punished(pool: &Pool, cheater: &Client<'_>, honest_macs: u64) {
    assert_eq!(pool.window_macs(cheater.number), 0);
    assert_eq!(cheater.refusal(&Request::Lease), Some(Refusal::Suspended));
    assert_eq!(pool.window_macs(1), honest_macs);
    assert_eq!(pool.pay(1, 1_000_000), [(AccountId([1; 32]), 980_000)]);
}

/// A result of the first network of a lease that claims all of its images and has trained only some.
fn underwork(cheater: &mut Client<'_>, lease: &crate::types::Lease) -> Step {
    let images = lease.work[0].images / 16 * 16;
    let mut step = cheater.train_hurriedly(lease, 0, images);
    assert!(step.share.images < images, "{images}");
    step.share.images = images;
    step
}
