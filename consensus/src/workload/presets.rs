//! The named search spaces of the paper (tables 1 and 2).
//!
//! Slips of the printed tables, kept or mended so:
//! - S1 and S2 list 48 filters, S7 and S8 list 32, which the full row lacks. They are kept, so S1, S2, S7 and S8 are
//!   not subsets of the full space.
//! - S3 lists stride 0, which has no meaning. It is dropped.
//! - S1 to S9 fix no number of layers; every preset takes it from the caller (6 in the paper's experiments).
//! - Pairs of 0 integer and 0 fraction bits, which several rows contain, are never part of a space.

use super::{DenseConfig, Space};

/// Names that [`Space::preset`] knows.
pub const PRESET_NAMES: [&str; 10] = ["full", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9"];

const ODD_TO_9: &[u8] = &[1, 3, 5, 7, 9];
const FULL_FILTERS: &[u16] = &[4, 8, 12, 24, 36, 64, 128];
const TO_3: &[u8] = &[1, 2, 3];
const TO_5: &[u8] = &[1, 2, 3, 4, 5];
const ZERO_TO_3: &[u8] = &[0, 1, 2, 3];
const ZERO_TO_6: &[u8] = &[0, 1, 2, 3, 4, 5, 6];

/// One row of the tables: kernel height, kernel width, filters, stride (both), pool, act int, act frac, weight int,
/// weight frac.
type Row = (
    &'static [u8],
    &'static [u8],
    &'static [u16],
    &'static [u8],
    &'static [u8],
    &'static [u8],
    &'static [u8],
    &'static [u8],
    &'static [u8],
);

const WIDE_BITS: [&[u8]; 4] = [ZERO_TO_3, ZERO_TO_6, ZERO_TO_3, ZERO_TO_6];

fn row(name: &str) -> Option<Row> {
    let [wide_ai, wide_af, wide_wi, wide_wf] = WIDE_BITS;
    Some(match name {
        "full" => (ODD_TO_9, ODD_TO_9, FULL_FILTERS, TO_5, &[1, 2], wide_ai, wide_af, &[0, 1, 2, 3, 4], wide_wf),
        "S1" => (&[1, 5, 7], &[3, 5, 7], &[24, 36, 48, 64], TO_3, &[1, 2], TO_3, TO_5, &[0, 1, 2, 3, 4], &[2, 3, 4, 5]),
        "S2" => {
            let kernel: &[u8] = &[1, 3, 5, 7];
            (kernel, kernel, &[24, 36, 48, 64], TO_3, &[1, 2], wide_ai, wide_af, wide_wi, wide_wf)
        }
        "S3" => (ODD_TO_9, ODD_TO_9, FULL_FILTERS, TO_3, &[1], wide_ai, wide_af, wide_wi, wide_wf),
        "S4" => (ODD_TO_9, ODD_TO_9, FULL_FILTERS, TO_5, &[1], &[2, 3], &[4, 5, 6], &[2, 3], &[4, 5, 6]),
        "S5" => (ODD_TO_9, ODD_TO_9, FULL_FILTERS, TO_5, &[1], &[0, 1], &[1, 2, 3], &[0, 1], &[1, 2, 3]),
        "S6" => (&[1, 3, 5], &[1, 3, 5], &[4, 8, 12], TO_3, &[1], wide_ai, wide_af, wide_wi, wide_wf),
        "S7" => (&[5, 7, 9], &[5, 7, 9], &[32, 64, 128], &[3, 4, 5], &[1], wide_ai, wide_af, wide_wi, wide_wf),
        "S8" => (&[5, 7, 9], &[5, 7, 9], &[32, 64, 128], &[3, 4, 5], &[1], &[2, 3], &[4, 5, 6], &[2, 3], &[4, 5, 6]),
        "S9" => (&[1, 3, 5], &[1, 3, 5], &[24, 36], TO_3, &[1], &[2, 3], &[5, 6], &[2, 3], &[5, 6]),
        _ => return None,
    })
}

impl Space {
    /// A named space of the paper ([`PRESET_NAMES`]) with that many convolution layers and the default dense layers.
    pub fn preset(name: &str, conv_layers: u8) -> Option<Self> {
        let (kernel_height, kernel_width, filters, stride, pool, act_int, act_frac, weight_int, weight_frac) =
            row(name)?;
        Some(Self {
            conv_layers,
            kernel_height: kernel_height.to_vec(),
            kernel_width: kernel_width.to_vec(),
            filters: filters.to_vec(),
            stride_height: stride.to_vec(),
            stride_width: stride.to_vec(),
            pool: pool.to_vec(),
            act_int: act_int.to_vec(),
            act_frac: act_frac.to_vec(),
            weight_int: weight_int.to_vec(),
            weight_frac: weight_frac.to_vec(),
            dense: DenseConfig::default(),
        })
    }
}
