//! What a search may visit: for every layer its own lists of values, such as a lease grants.

use podl_consensus::workload::{Architecture, ConvLayer, FixedPoint, Setting, Space};
use serde::{Deserialize, Serialize};

use crate::data::Random;

/// Settings of one layer.
pub const SETTINGS: usize = Setting::ALL.len();

/// Why a box cannot be searched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// No layers at all.
    #[error("the search box has no layers")]
    NoLayers,
    /// A list has no values.
    #[error("layer {layer}: no value of {setting:?} is left to search")]
    Empty {
        /// Which layer.
        layer: usize,
        /// Which setting.
        setting: Setting,
    },
    /// A value beyond the setting's type.
    #[error("layer {layer}: {setting:?} lists {got}, expected at most 255")]
    Range {
        /// Which layer.
        layer: usize,
        /// Which setting.
        setting: Setting,
        /// The value.
        got: u16,
    },
    /// Only formats without bits are left.
    #[error("layer {layer}: only {what} formats of 0 bits are left")]
    NoBits {
        /// Which layer.
        layer: usize,
        /// Activation or weight.
        what: &'static str,
    },
}

/// Values that the settings of one layer may take, in the order of [`Setting::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBox(pub [Vec<u16>; SETTINGS]);

impl LayerBox {
    fn values(&self, setting: Setting) -> &[u16] {
        &self.0[setting as usize]
    }

    fn check(&self, layer: usize) -> Result<(), BoxError> {
        for setting in Setting::ALL {
            let values = self.values(setting);
            if values.is_empty() {
                return Err(BoxError::Empty { layer, setting });
            }
            match values.iter().find(|&&v| v > 255 && setting != Setting::Filters) {
                Some(&got) => return Err(BoxError::Range { layer, setting, got }),
                None => continue,
            }
        }
        let no_bits = |int, frac| [int, frac].iter().all(|&s| self.values(s) == [0]);
        if no_bits(Setting::ActInt, Setting::ActFrac) {
            return Err(BoxError::NoBits { layer, what: "activation" });
        }
        if no_bits(Setting::WeightInt, Setting::WeightFrac) {
            return Err(BoxError::NoBits { layer, what: "weight" });
        }
        Ok(())
    }
}

/// A box of networks: every combination of the layers' values but formats of 0 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchBox {
    layers: Vec<LayerBox>,
}

/// Values of one layer, in the order of [`Setting::ALL`].
type Values = [u16; SETTINGS];

fn layer_of(v: Values) -> ConvLayer {
    // `LayerBox::check` keeps all but the filters within a byte.
    let byte = |i: usize| u8::try_from(v[i]).unwrap_or(u8::MAX);
    ConvLayer {
        kernel: [byte(0), byte(1)],
        filters: v[2],
        stride: [byte(3), byte(4)],
        pool: byte(5),
        act: FixedPoint::new(byte(6), byte(7)),
        weight: FixedPoint::new(byte(8), byte(9)),
    }
}

fn values_of(layer: &ConvLayer) -> Values {
    Setting::ALL.map(|setting| setting.get(layer))
}

impl SearchBox {
    /// A box of these layers.
    ///
    /// # Errors
    /// [`BoxError`] when it holds no network.
    pub fn new(layers: Vec<LayerBox>) -> Result<Self, BoxError> {
        if layers.is_empty() {
            return Err(BoxError::NoLayers);
        }
        layers.iter().enumerate().try_for_each(|(index, layer)| layer.check(index))?;
        Ok(Self { layers })
    }

    /// The whole of a space.
    ///
    /// # Errors
    /// [`BoxError`] when it holds no network.
    pub fn from_space(space: &Space) -> Result<Self, BoxError> {
        let layer = LayerBox(Setting::ALL.map(|setting| setting.values(space)));
        Self::new(vec![layer; space.conv_layers.into()])
    }

    /// Number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Never: a box has layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Whether the network lies in the box.
    pub fn contains(&self, architecture: &Architecture) -> bool {
        let inside = |(layer, own): (&ConvLayer, &LayerBox)| {
            layer.act.total_bits() > 0
                && layer.weight.total_bits() > 0
                && Setting::ALL.iter().all(|&s| own.values(s).contains(&s.get(layer)))
        };
        architecture.layers.len() == self.len() && architecture.layers.iter().zip(&self.layers).all(inside)
    }

    /// A network of the box, all equally likely.
    pub fn sample(&self, random: &mut Random) -> Architecture {
        let layers = self.layers.iter().map(|own| {
            loop {
                let layer = layer_of(Setting::ALL.map(|setting| pick(own.values(setting), random)));
                if layer.act.total_bits() > 0 && layer.weight.total_bits() > 0 {
                    return layer;
                }
            }
        });
        Architecture { layers: layers.collect() }
    }

    /// What a setting of a layer may be, never empty.
    pub fn values(&self, layer: usize, setting: Setting) -> &[u16] {
        self.layers[layer].values(setting)
    }

    /// The network of these values, layer by layer in the order of [`Setting::ALL`]. It may have formats of 0 bits.
    pub(super) fn of_values(&self, values: &[u16]) -> Architecture {
        let (layers, _) = values.as_chunks::<SETTINGS>();
        Architecture { layers: layers.iter().map(|values| layer_of(*values)).collect() }
    }

    /// Gives a setting of a layer another value, unless a format would lose its last bit.
    pub(super) fn set(&self, architecture: &mut Architecture, layer: usize, setting: Setting, value: u16) {
        let layer = &mut architecture.layers[layer];
        let mut values = values_of(layer);
        values[setting as usize] = value;
        let changed = layer_of(values);
        if changed.act.total_bits() > 0 && changed.weight.total_bits() > 0 {
            *layer = changed;
        }
    }

    /// The nearest network of the box: every value outside goes to the closest inside, the lower of two. Too few
    /// layers are filled with copies of the last, too many dropped.
    pub fn project(&self, architecture: &Architecture) -> Architecture {
        let layers = self.layers.iter().enumerate().map(|(index, own)| {
            let Some(layer) = architecture.layers.get(index).or(architecture.layers.last()) else {
                return layer_of(Setting::ALL.map(|s| own.values(s)[0]));
            };
            let mut values = Setting::ALL.map(|setting| nearest(own.values(setting), setting.get(layer)));
            for (int, frac) in [(Setting::ActInt, Setting::ActFrac), (Setting::WeightInt, Setting::WeightFrac)] {
                let positive = |s: Setting| own.values(s).iter().copied().find(|&v| v > 0);
                if values[int as usize] == 0 && values[frac as usize] == 0 {
                    match positive(frac) {
                        Some(bits) => values[frac as usize] = bits,
                        None => values[int as usize] = positive(int).unwrap_or(0),
                    }
                }
            }
            layer_of(values)
        });
        Architecture { layers: layers.collect() }
    }
}

fn pick(values: &[u16], random: &mut Random) -> u16 {
    values[random.below(u32::try_from(values.len()).unwrap_or(u32::MAX)) as usize]
}

fn nearest(values: &[u16], wanted: u16) -> u16 {
    values.iter().copied().min_by_key(|v| (v.abs_diff(wanted), *v)).unwrap_or(wanted)
}
