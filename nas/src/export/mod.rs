//! Models for other tools: a QONNX graph ([`qonnx`]) and a model card ([`Card`]).
//!
//! The graph computes in 32-bit floats what the engine computes in integers. Every value is an integer times a power of
//! two, so the two agree exactly while sums stay below 2^24 steps; [`sum_bounds`] proves for a model whether they do.
//! Nothing here is consensus-critical. docs/export.md describes the graph for those who use it.

mod card;
mod card_text;
mod exact;
mod graph;
mod input;
mod onnx;
mod provenance;
mod qonnx;

pub use card::{Card, CardError, CardFacts, Evaluation, LayerCard};
pub use exact::{FLOAT32_INTEGERS, SumBound, sum_bounds};
pub use provenance::{Provenance, TaskFacts, Won};
pub use qonnx::{InputStage, Qonnx, qonnx};

/// What an exported graph takes as its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputForm {
    /// Pixels as floats 0 to 255; the input table is part of the graph.
    Pixels,
    /// Values of the input table divided by 256.
    Values,
}

/// What is to be exported beside the model itself.
#[derive(Clone, Copy, Debug)]
pub struct QonnxOptions<'a> {
    /// For each channel the input values (8 fraction bits) of the bytes 0 to 255, where they are known.
    pub input_table: Option<&'a [Vec<i16>]>,
    /// What the graph takes.
    pub input: InputForm,
    /// Where the model comes from, where that is known.
    pub provenance: Option<&'a Provenance>,
}

impl QonnxOptions<'_> {
    fn check_table(&self, channels: u8) -> Result<(), ExportError> {
        let Some(table) = self.input_table else { return Ok(()) };
        let got: Vec<usize> = table.iter().map(Vec::len).collect();
        if got == vec![256; usize::from(channels)] { Ok(()) } else { Err(ExportError::InputTable { got, channels }) }
    }
}

/// Why a model cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The graph is to take pixels, but nothing says what they stand for.
    #[error("a graph that takes pixels needs the task's input table, which is not known")]
    NoInputTable,
    /// The input table is not one of 256 values for each channel.
    #[error("the input table has {got:?} values, expected 256 for each of {channels} channels")]
    InputTable {
        /// Values of each channel.
        got: Vec<usize>,
        /// Channels of the network.
        channels: u8,
    },
    /// Beyond what an ONNX file can hold.
    #[error("the weights take {got} bytes as floats, at most {limit} fit an ONNX file")]
    TooLarge {
        /// Bytes of the weights.
        got: u64,
        /// Most bytes.
        limit: u64,
    },
}

#[cfg(test)]
mod tests;
