//! A part of a search space: the space with the values of single settings narrowed.

use podl_consensus::workload::{Architecture, ConvLayer, FixedPoint, Setting, Space};
use podl_nas::search::{BoxError, LayerBox, SearchBox};
use serde::{Deserialize, Serialize};

use super::Count;
use crate::rng::SeededRng;

/// One setting of one layer, narrowed to some of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Which layer, from 0.
    pub layer: u8,
    /// Which setting.
    pub setting: Setting,
    /// The values that remain, ascending.
    pub values: Vec<u16>,
}

/// A part of a search space.
///
/// A [`Space`] lists the same values for every layer, so halves of a list do not halve a space of several layers: the
/// networks that mix both halves would belong to neither. Therefore a part is a space plus cuts at single layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subspace {
    /// The values of all layers.
    pub space: Space,
    /// Narrower values of single layers: sorted by layer and setting, at most one each.
    pub cuts: Vec<Cut>,
}

impl Subspace {
    /// A space as a part of itself.
    pub fn whole(space: Space) -> Self {
        Self { space, cuts: Vec::new() }
    }

    /// The values that a layer's setting may take, ascending.
    pub fn values(&self, layer: u8, setting: Setting) -> Vec<u16> {
        let cut = self.cuts.iter().find(|c| c.layer == layer && c.setting == setting);
        cut.map_or_else(|| setting.values(&self.space), |c| c.values.clone())
    }

    /// The part of this part in which one setting of one layer takes only `values`.
    #[must_use]
    pub fn cut(&self, layer: u8, setting: Setting, values: &[u16]) -> Self {
        let kept: Vec<u16> = self.values(layer, setting).into_iter().filter(|v| values.contains(v)).collect();
        let mut part = self.clone();
        part.cuts.retain(|c| (c.layer, c.setting) != (layer, setting));
        part.cuts.push(Cut { layer, setting, values: kept });
        part.cuts.sort_by_key(|c| (c.layer, c.setting));
        part
    }

    /// Whether the network lies in this part.
    pub fn contains(&self, architecture: &Architecture) -> bool {
        self.space.contains(architecture)
            && self.cuts.iter().all(|cut| {
                let layer = architecture.layers.get(usize::from(cut.layer));
                layer.is_some_and(|layer| cut.values.contains(&cut.setting.get(layer)))
            })
    }

    /// What a search strategy may visit of it: all.
    ///
    /// # Errors
    /// [`BoxError`] when it holds no network.
    pub fn search_box(&self) -> Result<SearchBox, BoxError> {
        let layers = (0..self.space.conv_layers).map(|layer| LayerBox(Setting::ALL.map(|s| self.values(layer, s))));
        SearchBox::new(layers.collect())
    }

    /// Number of networks in it, whatever bounds admit of them.
    pub fn cardinality(&self) -> Count {
        let layers = (0..self.space.conv_layers).map(|layer| Count::from(self.layer_settings(layer)));
        layers.fold(Count::from(1), |all, layer| all.times(&layer))
    }

    /// Whether it holds no network at all.
    pub fn is_empty(&self) -> bool {
        (0..self.space.conv_layers).any(|layer| self.layer_settings(layer) == 0)
    }

    /// Settings of one layer, pairs of 0 bits excluded. Lists have at most 512 values of 16 bits, so ten of them
    /// multiply to less than 2^128.
    fn layer_settings(&self, layer: u8) -> u128 {
        let count = |setting| self.values(layer, setting).len() as u128;
        let pairs = |int, frac| {
            let has_zero = |setting| self.values(layer, setting).contains(&0);
            count(int) * count(frac) - u128::from(has_zero(int) && has_zero(frac))
        };
        [
            Setting::KernelHeight,
            Setting::KernelWidth,
            Setting::Filters,
            Setting::StrideHeight,
            Setting::StrideWidth,
            Setting::Pool,
        ]
        .into_iter()
        .map(count)
        .product::<u128>()
            * pairs(Setting::ActInt, Setting::ActFrac)
            * pairs(Setting::WeightInt, Setting::WeightFrac)
    }

    /// The networks that lie in both; `None` when there are none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.space.conv_layers != other.space.conv_layers || self.space.dense != other.space.dense {
            return None;
        }
        let mut both = self.clone();
        for setting in Setting::ALL {
            let theirs = setting.values(&other.space);
            let common: Vec<u16> = setting.values(&self.space).into_iter().filter(|v| theirs.contains(v)).collect();
            setting.set_values(&mut both.space, &common);
        }
        // A setting with a cut on either side takes what both sides allow there, which the common lists bound too.
        for cut in self.cuts.iter().chain(&other.cuts) {
            let mine = self.values(cut.layer, cut.setting);
            let common: Vec<u16> =
                other.values(cut.layer, cut.setting).into_iter().filter(|v| mine.contains(v)).collect();
            both.cuts.retain(|c| (c.layer, c.setting) != (cut.layer, cut.setting));
            both.cuts.push(Cut { layer: cut.layer, setting: cut.setting, values: common });
        }
        both.cuts.sort_by_key(|c| (c.layer, c.setting));
        (!both.is_empty()).then_some(both)
    }

    /// A network of this part, drawn setting by setting. `None` when this part is empty.
    pub fn draw(&self, rng: &mut SeededRng) -> Option<Architecture> {
        if self.is_empty() {
            return None;
        }
        let blank = ConvLayer {
            kernel: [1, 1],
            filters: 1,
            stride: [1, 1],
            pool: 1,
            act: FixedPoint::new(0, 0),
            weight: FixedPoint::new(0, 0),
        };
        let mut layers = vec![blank; self.space.conv_layers.into()];
        for (index, layer) in (0..self.space.conv_layers).zip(&mut layers) {
            for setting in Setting::ALL {
                let values = self.values(index, setting);
                setting.set(layer, *values.get(rng.index(values.len()))?);
            }
            self.give_bits(index, layer)?;
        }
        Some(Architecture { layers })
    }

    /// Replaces a pair of 0 bits, which no space contains, by the pair with the least bits.
    fn give_bits(&self, index: u8, layer: &mut ConvLayer) -> Option<()> {
        for (int, frac) in [(Setting::ActInt, Setting::ActFrac), (Setting::WeightInt, Setting::WeightFrac)] {
            if int.get(layer) + frac.get(layer) > 0 {
                continue;
            }
            let ints = self.values(index, int);
            let pairs = self.values(index, frac).into_iter().flat_map(|f| ints.iter().map(move |&i| (i + f, i, f)));
            let (_, i, f) = pairs.filter(|&(bits, ..)| bits > 0).min()?;
            int.set(layer, i);
            frac.set(layer, f);
        }
        Some(())
    }
}

/// Number of networks that lie in at least one of the parts, exactly.
///
/// By inclusion and exclusion, where only parts that do meet are followed, and none that lies in another: for disjoint
/// parts one pass; of overlapping ones `parts` should hold tens, not thousands.
pub fn union_cardinality(parts: &[Subspace]) -> Count {
    count_union(&widest(parts.to_vec()))
}

/// The same for parts of which none lies in another.
fn count_union(parts: &[Subspace]) -> Count {
    let Some((first, rest)) = parts.split_first() else { return Count::default() };
    let shared = widest(rest.iter().filter_map(|part| first.intersection(part)).collect());
    // What is shared lies in the first, so that nothing is taken from less.
    let alone = first.cardinality().checked_minus(&count_union(&shared)).unwrap_or_default();
    alone.plus(&count_union(rest))
}

/// The parts without those that lie in another. In a small space many drawn parts are the same or nearly so, and
/// following each of them would take for ever.
fn widest(mut parts: Vec<Subspace>) -> Vec<Subspace> {
    let mut kept: Vec<Subspace> = Vec::with_capacity(parts.len());
    while let Some(part) = parts.pop() {
        let lies_in = |other: &Subspace| part.intersection(other).as_ref() == Some(&part);
        if !kept.iter().any(lies_in) && !parts.iter().any(lies_in) {
            kept.push(part);
        }
    }
    kept
}
