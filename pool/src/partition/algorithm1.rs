//! The paper's Algorithm 1: random subsets of every setting's range.
//!
//! Two slips of the printed algorithm are mended. Its loop stops at m - 1 and so makes one subspace too few: here m
//! come out. Its table T holds *all* subsets, so also the empty one, which leaves a miner without any network: here a
//! subset is drawn again when it is empty. For the same reason a draw whose only bit pair is (0, 0) is repeated.

use podl_consensus::workload::{Setting, Space};

use super::Subspace;
use crate::rng::SeededRng;

/// Draws a subspace for each of `miners`. They may overlap and together cover only part of the space: that is the
/// paper's scheme. Empty when the space itself holds no network.
pub fn algorithm1(space: &Space, miners: usize, rng: &mut SeededRng) -> Vec<Subspace> {
    if Subspace::whole(space.clone()).is_empty() {
        return Vec::new();
    }
    (0..miners).map(|_| draw_subspace(space, rng)).collect()
}

fn draw_subspace(space: &Space, rng: &mut SeededRng) -> Subspace {
    loop {
        let mut drawn = space.clone();
        for setting in Setting::ALL {
            setting.set_values(&mut drawn, &draw_subset(&setting.values(space), rng));
        }
        let part = Subspace::whole(drawn);
        // Ends: a draw keeps a pair with bits with a probability of at least 1/4 for either kind of format.
        if !part.is_empty() {
            return part;
        }
    }
}

/// A uniformly drawn non-empty subset: a coin for every value, all of them again while none is in.
fn draw_subset(values: &[u16], rng: &mut SeededRng) -> Vec<u16> {
    loop {
        let subset: Vec<u16> = values.iter().copied().filter(|_| rng.next_u64() & 1 == 1).collect();
        if !subset.is_empty() || values.is_empty() {
            return subset;
        }
    }
}
