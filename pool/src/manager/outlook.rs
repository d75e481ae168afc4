//! What more training would bring a model: networks that were trained for different times do not compare by their counts.

use super::assign::train_images;
use super::search::Search;
use crate::types::Elite;

/// Passes over the data after which a network has learned half of what it can learn, in hundredths. Measured:
/// quantisation-aware training on CIFAR-10 reaches .76, .92 and 1 of its gain over chance after 3, 10 and 30 passes.
const HALF_LEARNED_PERCENT: u64 = 107;

/// Passes over the data after which a network has learned what it can, but for what hardly pays for the time.
pub(super) const FULL_PASSES: u32 = 30;

/// How networks learn on the data of an interval.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// Classes of the task.
    classes: u64,
    /// Images after which a network has learned half of what it can.
    half: u64,
    /// Images after which it has learned what it can.
    full: u64,
}

impl Outlook {
    /// The outlook of an interval.
    pub(super) fn of(search: &Search) -> Self {
        let pass = u64::from(train_images(search));
        Self {
            classes: search.interval.workload.classes.max(1).into(),
            half: (pass.saturating_mul(HALF_LEARNED_PERCENT) / 100).max(1),
            full: pass.saturating_mul(FULL_PASSES.into()),
        }
    }

    /// What of so many more images is worth the time of a network that was trained on others already.
    pub fn worth(self, trained: u64, more: u64) -> u64 {
        more.min(self.full.saturating_sub(trained))
    }

    /// What a model with this count of so many ranking images is expected to count after `more` training images, in
    /// thousandths: what it has over chance grows along n / (n + half), at most fourfold. Every training that brought
    /// nothing halves the hope.
    pub fn thousandths(self, count: u32, of_images: u32, trained: u64, more: u64, stalls: u8) -> u64 {
        let (n, half) = (u128::from(trained.max(1)), u128::from(self.half));
        let chance = u64::from(of_images) / self.classes;
        let gain = u128::from(u64::from(count).saturating_sub(chance)) * 1000;
        // gain x (n + more)(n + half) / (n (n + more + half)) - gain
        let more = u128::from(more).min(1 << 40);
        let brought = gain * more * half / (n * (n + more + half)).max(1);
        let brought = u64::try_from(brought.min(gain * 4)).unwrap_or(u64::MAX) >> stalls.min(32);
        u64::from(count) * 1000 + brought
    }

    /// What a confirmed model is expected to count once it was trained on so many images in all.
    pub fn at(self, elite: &Elite, rank_images: u32, images: u64) -> u64 {
        self.thousandths(elite.count, rank_images, elite.images, images.saturating_sub(elite.images), elite.stalls)
    }
}
