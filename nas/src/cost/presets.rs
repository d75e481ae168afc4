//! Named bounds.

use podl_consensus::workload::Bounds;

/// Bounds with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundsPreset {
    /// What people call it.
    pub name: &'static str,
    /// What a network must keep to.
    pub bounds: Bounds,
    /// How hard the bounds bite: which share of the full space of six layers they leave by the corrected model
    /// (docs/workload.md).
    pub about: &'static str,
}

/// The bounds that have names, the loosest first.
pub const BOUNDS_PRESETS: [BoundsPreset; 3] = [
    BoundsPreset {
        name: "paper",
        bounds: Bounds { lut: 100_000, throughput: 10 },
        about: "100,000 LUT, over 10 images/s: the paper's, which leave all of the full space",
    },
    BoundsPreset {
        name: "small",
        bounds: Bounds { lut: 10_000, throughput: 1_000 },
        about: "10,000 LUT, over 1,000 images/s: leave 65 % of the full space",
    },
    BoundsPreset {
        name: "fast",
        bounds: Bounds { lut: 100_000, throughput: 5_000 },
        about: "100,000 LUT, over 5,000 images/s: leave 40 % of the full space",
    },
];
