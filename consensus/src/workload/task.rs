//! The part of a task that says what work is done and how it is judged.

use podl_chain_spec::{Caps, ChainSpec};
use serde::{Deserialize, Serialize};

use super::{InputShape, Space, SpaceError};

/// What an FPGA mapping must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Most LUTs.
    pub lut: u64,
    /// A feasible network is faster than this, in images a second.
    pub throughput: u64,
}

/// Versions of the consensus-critical code that judges a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadVersions {
    /// Integer engine and artefact format.
    pub engine: u16,
    /// FPGA cost model.
    pub cost_model: u16,
    /// Generator of built-in data.
    pub generator: u16,
}

/// Which networks may compete, on what data, under which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The search space, dense layers included.
    pub space: Space,
    /// FPGA bounds.
    pub bounds: Bounds,
    /// Image size.
    pub input: InputShape,
    /// Number of classes.
    pub classes: u16,
    /// Normalisation: for each channel the 256 input values (8 fraction bits) of the bytes 0 to 255.
    pub input_table: Vec<Vec<i16>>,
    /// Images of every test shard.
    pub shard_images: u32,
    /// Versions of the code that judges.
    pub versions: WorkloadVersions,
}

/// Why a workload cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// The search space cannot be used.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A number is out of its range.
    #[error("{what} must be {low} to {high}, got {got}")]
    Range {
        /// Which.
        what: &'static str,
        /// What it is.
        got: u64,
        /// Least allowed.
        low: u64,
        /// Most allowed.
        high: u64,
    },
}

fn range(what: &'static str, got: u64, low: u64, high: u64) -> Result<(), WorkloadError> {
    if (low..=high).contains(&got) { Ok(()) } else { Err(WorkloadError::Range { what, got, low, high }) }
}

impl Workload {
    /// The workload of filler intervals: the full space on generated 32x32 images of 10 classes.
    ///
    /// Its normalisation is fixed, byte 128 to 0 and 64 steps to 1, because it must be known before the data are.
    pub fn filler(spec: &ChainSpec) -> Self {
        let channel: Vec<i16> = (0..256i16).map(|byte| (byte - 128) * 4).collect();
        Self {
            space: Space::full(spec.filler.conv_layers),
            bounds: Bounds { lut: spec.filler.lut, throughput: spec.filler.throughput },
            input: InputShape::CIFAR,
            classes: 10,
            input_table: vec![channel; 3],
            shard_images: spec.filler.shard_images,
            versions: WorkloadVersions {
                engine: spec.versions.engine,
                cost_model: spec.versions.cost_model,
                generator: spec.versions.generator,
            },
        }
    }

    /// Whether the workload can be published on a chain with these caps. Versions are compared by the caller, which
    /// knows the chain's.
    ///
    /// # Errors
    /// [`WorkloadError`] for the first field that is out of its range.
    pub fn validate(&self, caps: &Caps) -> Result<(), WorkloadError> {
        self.space.validate(caps)?;
        range("the LUT bound", self.bounds.lut, 1, 1 << 40)?;
        range("the throughput bound", self.bounds.throughput, 1, 100_000_000)?;
        range("the number of channels", self.input.channels.into(), 1, caps.input_channels.into())?;
        range("the input height", self.input.height.into(), 1, caps.input_side.into())?;
        range("the input width", self.input.width.into(), 1, caps.input_side.into())?;
        range("the number of classes", self.classes.into(), 2, caps.classes.into())?;
        let channels = u64::from(self.input.channels);
        range("the number of normalisation tables", self.input_table.len() as u64, channels, channels)?;
        for table in &self.input_table {
            range("the length of a normalisation table", table.len() as u64, 256, 256)?;
        }
        // Every image has a label of at least one byte besides its pixels.
        let most_images = u64::from(caps.shard_bytes) / (self.input.values() as u64 + 1);
        range("the number of images in a shard", self.shard_images.into(), 1, most_images)
    }
}
