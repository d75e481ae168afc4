//! The search space of a task.

use podl_chain_spec::Caps;
use serde::{Deserialize, Serialize};

use super::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network, NetworkError};

/// Values that each setting of a layer may take, the same for every layer.
///
/// An `(int, frac)` pair that sums to 0 bits is *never* part of a space, whatever the lists say: such a layer could
/// store nothing. A space may list 0 on both sides (the paper's does), but one whose only pair is `(0, 0)` contains
/// no network and cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Number of convolution layers of every network.
    pub conv_layers: u8,
    /// Kernel heights, in pixels.
    pub kernel_height: Vec<u8>,
    /// Kernel widths, in pixels.
    pub kernel_width: Vec<u8>,
    /// Filters (output channels).
    pub filters: Vec<u16>,
    /// Vertical strides.
    pub stride_height: Vec<u8>,
    /// Horizontal strides.
    pub stride_width: Vec<u8>,
    /// Max-pool windows.
    pub pool: Vec<u8>,
    /// Integer bits of activations.
    pub act_int: Vec<u8>,
    /// Fraction bits of activations.
    pub act_frac: Vec<u8>,
    /// Integer bits of weights.
    pub weight_int: Vec<u8>,
    /// Fraction bits of weights.
    pub weight_frac: Vec<u8>,
    /// The dense layers, which are not searched.
    #[serde(default)]
    pub dense: DenseConfig,
}

/// Why a space cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// A list has no values.
    #[error("space: {field} is empty")]
    Empty {
        /// Which list.
        field: &'static str,
    },
    /// A list is not in strictly ascending order, so the space has several encodings.
    #[error("space: {field} must be sorted without repeats, got {second} after {first}")]
    Unsorted {
        /// Which list.
        field: &'static str,
        /// A value.
        first: u16,
        /// The value after it.
        second: u16,
    },
    /// A value is out of its range.
    #[error("space: {field} must be {low} to {high}, got {got}")]
    Range {
        /// Which field.
        field: &'static str,
        /// The value.
        got: u64,
        /// Least allowed.
        low: u64,
        /// Most allowed by the chain's caps.
        high: u64,
    },
    /// The only pair of integer and fraction bits is (0, 0).
    #[error("space: {field} allow only 0 bits, so that the space holds no network")]
    NoBits {
        /// Activation or weight bits.
        field: &'static str,
    },
}

fn range(field: &'static str, got: u64, low: u64, high: u64) -> Result<(), SpaceError> {
    if (low..=high).contains(&got) { Ok(()) } else { Err(SpaceError::Range { field, got, low, high }) }
}

/// Checks order and range of one list.
fn check_list<T: Copy + Into<u16>>(field: &'static str, list: &[T], low: u16, high: u16) -> Result<(), SpaceError> {
    if list.is_empty() {
        return Err(SpaceError::Empty { field });
    }
    for pair in list.windows(2) {
        let (first, second) = (pair[0].into(), pair[1].into());
        if first >= second {
            return Err(SpaceError::Unsorted { field, first, second });
        }
    }
    list.iter().try_for_each(|&value| range(field, value.into().into(), low.into(), high.into()))
}

/// Checks that some pair has bits and that the widest pair is within the cap.
fn check_pairs(field: &'static str, int: &[u8], frac: &[u8], most: u8) -> Result<(), SpaceError> {
    let widest = int.iter().max().map_or(0, |&i| u64::from(i)) + frac.iter().max().map_or(0, |&f| u64::from(f));
    if widest == 0 {
        return Err(SpaceError::NoBits { field });
    }
    range(field, widest, 1, most.into())
}

impl Space {
    /// The full space of the paper with that many convolution layers.
    pub fn full(conv_layers: u8) -> Self {
        Self {
            conv_layers,
            kernel_height: vec![1, 3, 5, 7, 9],
            kernel_width: vec![1, 3, 5, 7, 9],
            filters: vec![4, 8, 12, 24, 36, 64, 128],
            stride_height: vec![1, 2, 3, 4, 5],
            stride_width: vec![1, 2, 3, 4, 5],
            pool: vec![1, 2],
            act_int: vec![0, 1, 2, 3],
            act_frac: vec![0, 1, 2, 3, 4, 5, 6],
            weight_int: vec![0, 1, 2, 3, 4],
            weight_frac: vec![0, 1, 2, 3, 4, 5, 6],
            dense: DenseConfig::default(),
        }
    }

    /// Whether the space can be published on a chain with these caps: lists sorted, unique, not empty and within
    /// the caps (the widest pair of bits too), and at least one network in it.
    ///
    /// # Errors
    /// [`SpaceError`] for the first field that is wrong.
    pub fn validate(&self, caps: &Caps) -> Result<(), SpaceError> {
        range("conv_layers", self.conv_layers.into(), 1, caps.conv_layers.into())?;
        check_list("kernel_height", &self.kernel_height, 1, caps.kernel.into())?;
        check_list("kernel_width", &self.kernel_width, 1, caps.kernel.into())?;
        check_list("filters", &self.filters, 1, caps.filters)?;
        check_list("stride_height", &self.stride_height, 1, caps.stride.into())?;
        check_list("stride_width", &self.stride_width, 1, caps.stride.into())?;
        check_list("pool", &self.pool, 1, caps.pool.into())?;
        check_list("act_int", &self.act_int, 0, caps.total_bits.into())?;
        check_list("act_frac", &self.act_frac, 0, caps.total_bits.into())?;
        check_list("weight_int", &self.weight_int, 0, caps.total_bits.into())?;
        check_list("weight_frac", &self.weight_frac, 0, caps.total_bits.into())?;
        check_pairs("activation bits (act_int + act_frac)", &self.act_int, &self.act_frac, caps.total_bits)?;
        check_pairs("weight bits (weight_int + weight_frac)", &self.weight_int, &self.weight_frac, caps.total_bits)?;
        range("dense.width", self.dense.width.into(), 1, caps.dense_width.into())?;
        range("dense.act (bits)", self.dense.act.total_bits().into(), 1, caps.total_bits.into())?;
        range("dense.weight (bits)", self.dense.weight.total_bits().into(), 1, caps.total_bits.into())
    }

    /// Whether the network is one of the space.
    ///
    /// # Errors
    /// What is outside, with its layer (from 0) and value, in words.
    pub fn check(&self, architecture: &Architecture) -> Result<(), String> {
        let (got, expected) = (architecture.layers.len(), usize::from(self.conv_layers));
        if got != expected {
            return Err(format!("{got} convolution layers, the space has {expected}"));
        }
        architecture
            .layers
            .iter()
            .enumerate()
            .try_for_each(|(index, layer)| self.check_layer(layer).map_err(|what| format!("layer {index}: {what}")))
    }

    /// Whether the network is one of the space.
    pub fn contains(&self, architecture: &Architecture) -> bool {
        self.check(architecture).is_ok()
    }

    fn check_layer(&self, layer: &ConvLayer) -> Result<(), String> {
        fn one_of<T: PartialEq + std::fmt::Debug>(what: &str, value: &T, list: &[T]) -> Result<(), String> {
            if list.contains(value) { Ok(()) } else { Err(format!("{what} {value:?} is not one of {list:?}")) }
        }
        one_of("kernel height", &layer.kernel[0], &self.kernel_height)?;
        one_of("kernel width", &layer.kernel[1], &self.kernel_width)?;
        one_of("number of filters", &layer.filters, &self.filters)?;
        one_of("vertical stride", &layer.stride[0], &self.stride_height)?;
        one_of("horizontal stride", &layer.stride[1], &self.stride_width)?;
        one_of("pool window", &layer.pool, &self.pool)?;
        one_of("activation integer bits", &layer.act.int_bits, &self.act_int)?;
        one_of("activation fraction bits", &layer.act.frac_bits, &self.act_frac)?;
        one_of("weight integer bits", &layer.weight.int_bits, &self.weight_int)?;
        one_of("weight fraction bits", &layer.weight.frac_bits, &self.weight_frac)?;
        if layer.act.total_bits() == 0 {
            return Err("activations of 0 bits".into());
        }
        if layer.weight.total_bits() == 0 {
            return Err("weights of 0 bits".into());
        }
        Ok(())
    }

    /// Settings of one layer as the paper counts them: the product of the lists' lengths, pairs of 0 bits included
    /// (8,575,000 for the full space).
    pub fn listed_settings_per_layer(&self) -> u128 {
        self.shape_settings()
            * self.act_int.len() as u128
            * self.act_frac.len() as u128
            * self.weight_int.len() as u128
            * self.weight_frac.len() as u128
    }

    /// Settings of one layer that [`Space::contains`] accepts (8,032,500 for the full space). Exact for a validated
    /// space.
    pub fn settings_per_layer(&self) -> u128 {
        let pairs = |int: &[u8], frac: &[u8]| {
            let empty = u128::from(int.contains(&0) && frac.contains(&0));
            int.len() as u128 * frac.len() as u128 - empty
        };
        self.shape_settings() * pairs(&self.act_int, &self.act_frac) * pairs(&self.weight_int, &self.weight_frac)
    }

    /// Number of networks in the space; `u128::MAX` if there are more (the full space from 6 layers on).
    pub fn cardinality(&self) -> u128 {
        self.settings_per_layer().saturating_pow(self.conv_layers.into())
    }

    fn shape_settings(&self) -> u128 {
        let lists = [&self.kernel_height, &self.kernel_width, &self.stride_height, &self.stride_width, &self.pool];
        lists.iter().map(|list| list.len() as u128).product::<u128>() * self.filters.len() as u128
    }

    /// The network of the space with the most multiply-accumulates, which also has the most parameters.
    ///
    /// It takes the largest kernel and filters and the smallest stride and pool in every layer. Proof: a layer's work
    /// is rows x columns x filters x kernel height x kernel width x input channels. Padding is SAME, so the kernel
    /// changes no shape; the filters raise this layer's work and the next one's; and ceil(n / s) grows with n and
    /// falls with s, so that a smaller stride or pool makes no later row or column count smaller. Every factor of
    /// every layer is at its maximum at once. Bits do not matter; the widest pair is taken, which always has some.
    ///
    /// # Errors
    /// [`SpaceError::Empty`] when a list is empty, which a validated space has not.
    pub fn largest_architecture(&self) -> Result<Architecture, SpaceError> {
        fn most<T: Copy + Ord>(field: &'static str, list: &[T]) -> Result<T, SpaceError> {
            list.iter().max().copied().ok_or(SpaceError::Empty { field })
        }
        fn least(field: &'static str, list: &[u8]) -> Result<u8, SpaceError> {
            list.iter().min().copied().ok_or(SpaceError::Empty { field })
        }
        let layer = ConvLayer {
            kernel: [most("kernel_height", &self.kernel_height)?, most("kernel_width", &self.kernel_width)?],
            filters: most("filters", &self.filters)?,
            stride: [least("stride_height", &self.stride_height)?, least("stride_width", &self.stride_width)?],
            pool: least("pool", &self.pool)?,
            act: FixedPoint::new(most("act_int", &self.act_int)?, most("act_frac", &self.act_frac)?),
            weight: FixedPoint::new(most("weight_int", &self.weight_int)?, most("weight_frac", &self.weight_frac)?),
        };
        Ok(Architecture { layers: vec![layer; self.conv_layers.into()] })
    }

    /// Training multiply-accumulates of one image in the largest network of the space: the size that a task's
    /// difficulty is made from.
    ///
    /// # Errors
    /// [`NetworkError`] when the space holds no network or its work overflows; a validated space does neither.
    pub fn largest_training_macs(&self, input: InputShape, classes: u16) -> Result<u64, NetworkError> {
        let largest = self.largest_architecture().map_err(|_| NetworkError::NoLayers)?;
        Ok(Network::new(&largest, input, classes, self.dense)?.training_macs())
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
