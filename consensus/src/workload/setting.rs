//! The ten settings of a layer, addressed alike (paper, tables 1 and 2).

use serde::{Deserialize, Serialize};

use super::{ConvLayer, Space};

/// One setting of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Setting {
    /// Kernel height, in pixels.
    KernelHeight,
    /// Kernel width, in pixels.
    KernelWidth,
    /// Filters.
    Filters,
    /// Vertical stride.
    StrideHeight,
    /// Horizontal stride.
    StrideWidth,
    /// Max-pool window.
    Pool,
    /// Integer bits of activations.
    ActInt,
    /// Fraction bits of activations.
    ActFrac,
    /// Integer bits of weights.
    WeightInt,
    /// Fraction bits of weights.
    WeightFrac,
}

impl Setting {
    /// All of them, in the paper's order.
    pub const ALL: [Self; 10] = [
        Self::KernelHeight,
        Self::KernelWidth,
        Self::Filters,
        Self::StrideHeight,
        Self::StrideWidth,
        Self::Pool,
        Self::ActInt,
        Self::ActFrac,
        Self::WeightInt,
        Self::WeightFrac,
    ];

    /// The values that a space lists for it, ascending.
    pub fn values(self, space: &Space) -> Vec<u16> {
        let narrow = match self {
            Self::Filters => return space.filters.clone(),
            Self::KernelHeight => &space.kernel_height,
            Self::KernelWidth => &space.kernel_width,
            Self::StrideHeight => &space.stride_height,
            Self::StrideWidth => &space.stride_width,
            Self::Pool => &space.pool,
            Self::ActInt => &space.act_int,
            Self::ActFrac => &space.act_frac,
            Self::WeightInt => &space.weight_int,
            Self::WeightFrac => &space.weight_frac,
        };
        narrow.iter().map(|&v| v.into()).collect()
    }

    /// Replaces the values that a space lists for it. Values over 255 are dropped for all settings but filters, which
    /// are the only ones that can have any.
    pub fn set_values(self, space: &mut Space, values: &[u16]) {
        if self == Self::Filters {
            space.filters = values.to_vec();
            return;
        }
        let list = match self {
            Self::Filters | Self::KernelHeight => &mut space.kernel_height,
            Self::KernelWidth => &mut space.kernel_width,
            Self::StrideHeight => &mut space.stride_height,
            Self::StrideWidth => &mut space.stride_width,
            Self::Pool => &mut space.pool,
            Self::ActInt => &mut space.act_int,
            Self::ActFrac => &mut space.act_frac,
            Self::WeightInt => &mut space.weight_int,
            Self::WeightFrac => &mut space.weight_frac,
        };
        *list = values.iter().filter_map(|&v| u8::try_from(v).ok()).collect();
    }

    /// A layer's value.
    pub fn get(self, layer: &ConvLayer) -> u16 {
        match self {
            Self::KernelHeight => layer.kernel[0].into(),
            Self::KernelWidth => layer.kernel[1].into(),
            Self::Filters => layer.filters,
            Self::StrideHeight => layer.stride[0].into(),
            Self::StrideWidth => layer.stride[1].into(),
            Self::Pool => layer.pool.into(),
            Self::ActInt => layer.act.int_bits.into(),
            Self::ActFrac => layer.act.frac_bits.into(),
            Self::WeightInt => layer.weight.int_bits.into(),
            Self::WeightFrac => layer.weight.frac_bits.into(),
        }
    }

    /// Sets a layer's value; one that does not fit the setting becomes 255, which every space refuses.
    pub fn set(self, layer: &mut ConvLayer, value: u16) {
        let narrow = u8::try_from(value).unwrap_or(u8::MAX);
        match self {
            Self::KernelHeight => layer.kernel[0] = narrow,
            Self::KernelWidth => layer.kernel[1] = narrow,
            Self::Filters => layer.filters = value,
            Self::StrideHeight => layer.stride[0] = narrow,
            Self::StrideWidth => layer.stride[1] = narrow,
            Self::Pool => layer.pool = narrow,
            Self::ActInt => layer.act.int_bits = narrow,
            Self::ActFrac => layer.act.frac_bits = narrow,
            Self::WeightInt => layer.weight.int_bits = narrow,
            Self::WeightFrac => layer.weight.frac_bits = narrow,
        }
    }
}
