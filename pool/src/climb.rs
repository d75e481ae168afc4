//! Hill climbing inside a part of a space: one step.

use podl_consensus::workload::{Architecture, Setting};

use crate::partition::Subspace;
use crate::rng::SeededRng;

/// One step: a setting of a layer moves to the next higher or lower value that the part allows. `None` when no setting
/// has a second value.
pub fn step(part: &Subspace, from: &Architecture, rng: &mut SeededRng) -> Option<Architecture> {
    let mut moves = Vec::new();
    for (layer, own) in (0u8..).zip(&from.layers) {
        for setting in Setting::ALL {
            let values = part.values(layer, setting);
            let now = setting.get(own);
            let above = values.iter().copied().filter(|&v| v > now).min();
            let below = values.iter().copied().filter(|&v| v < now).max();
            moves.extend([above, below].into_iter().flatten().map(|value| (layer, setting, value)));
        }
    }
    let (layer, setting, value) = *moves.get(rng.index(moves.len()))?;
    let mut next = from.clone();
    setting.set(next.layers.get_mut(usize::from(layer))?, value);
    part.contains(&next).then_some(next)
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::Space;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn steps_change_one_setting_and_stay_inside(seed: u64) {
            let part = Subspace::whole(Space::full(3)).cut(1, Setting::KernelWidth, &[3, 9]);
            let mut rng = SeededRng::new(&seed.to_le_bytes(), "test");
            let from = part.draw(&mut rng).unwrap();
            if let Some(next) = step(&part, &from, &mut rng) {
                prop_assert!(part.contains(&next));
                let layers = from.layers.iter().zip(&next.layers);
                let changed: usize =
                    layers.map(|(a, b)| Setting::ALL.iter().filter(|x| x.get(a) != x.get(b)).count()).sum();
                prop_assert_eq!(changed, 1);
            }
        }
    }
}
