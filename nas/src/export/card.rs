//! The model card: what a model is, what it costs, how good it is and where it comes from.

use podl_chain_spec::Hash32;
use podl_consensus::workload::{Bounds, ConvShape, DenseConfig, DenseShape, FixedPoint, INPUT_BITS, InputShape};
use serde::Serialize;

use super::exact::{SumBound, sum_bounds};
use super::provenance::Provenance;
use crate::artefact::{ENGINE_VERSION, Model, encoded_bytes};
use crate::cost::finn::{Memory, Pipeline};
use crate::cost::{Answer, CostError, CostModel, evaluate};

/// Why a card cannot be made.
pub type CardError = CostError;

/// What a card says that the model alone does not tell.
#[derive(Clone, Debug, Default)]
pub struct CardFacts<'a> {
    /// Bounds to cost the network under; without them it is not costed.
    pub bounds: Option<Bounds>,
    /// Accuracy, where the model was evaluated.
    pub evaluation: Option<Evaluation>,
    /// The task's input table, where it is known.
    pub input_table: Option<&'a [Vec<i16>]>,
    /// Where the model comes from, where that is known.
    pub provenance: Option<&'a Provenance>,
}

/// Images of a data set that the integer engine classified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The data set, as users type it.
    pub dataset: String,
    /// Which of its images.
    pub split: String,
    /// How many were classified correctly.
    pub correct: u32,
    /// How many there were.
    pub images: usize,
    /// The share of the correct ones.
    pub accuracy: f64,
}

/// A layer on a card. Shapes are channels, rows, columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerCard {
    /// Its name in the exported graph.
    pub name: String,
    /// `conv` or `dense`.
    pub kind: &'static str,
    /// Shape of its input.
    pub input: [u32; 3],
    /// Shape of its output, after the max-pool if it has one.
    pub output: [u32; 3],
    /// Kernel height and width, of a convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<[u8; 2]>,
    /// Vertical and horizontal stride, of a convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<[u8; 2]>,
    /// Window and stride of the max-pool, of a convolution; 1 means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<u8>,
    /// Integer and fraction bits of its (unsigned) activations; the output layer has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<FixedPoint>,
    /// Integer and fraction bits of its (signed) weights and biases.
    pub weight: FixedPoint,
    /// Weights and biases.
    pub parameters: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Multiply-accumulates x input bits x weight bits; the input of the first layer counts 1 + 6 bits.
    pub mac_bits: u64,
    /// Least and greatest value of any partial sum, in steps of the sum.
    pub sum: [i64; 2],
    /// Bits of an accumulator that holds every partial sum.
    pub accumulator_bits: u32,
    /// Whether 32-bit floats hold every partial sum exactly.
    pub float32_exact: bool,
}

/// What the cost models say under one pair of bounds; zeros where no design is feasible.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostCard {
    /// The bounds.
    pub bounds: Bounds,
    /// By what chains judge by.
    pub corrected: Answer,
    /// By the published program.
    pub naqs: Answer,
    /// By the estimators of the FINN tool chain, dense layers included; 10 to 30 % off synthesis.
    pub finn: Answer,
}

/// A model card. The names of its JSON form are a stable interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// BLAKE3 of the artefact.
    pub model_root: Hash32,
    /// Bytes of the artefact.
    pub artefact_bytes: u64,
    /// Version of the integer engine that defines the model's results.
    pub engine_version: u16,
    /// Image size.
    pub input: InputShape,
    /// Number of classes.
    pub classes: u16,
    /// Width and formats of the dense layers.
    pub dense: DenseConfig,
    /// All layers from the input on.
    pub layers: Vec<LayerCard>,
    /// Weights and biases.
    pub parameters: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Multiply-accumulates x bits of one image.
    pub mac_bits: u64,
    /// Whether 32-bit floats compute the model without ever rounding.
    pub float32_exact: bool,
    /// Accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// FPGA cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostCard>,
    /// Where it comes from. The input table stands by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// For each channel the input values (8 fraction bits) of the bytes 0 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_table: Option<Vec<Vec<i16>>>,
}

impl Card {
    /// The card of a model.
    ///
    /// # Errors
    /// [`CardError`] when a cost model cannot express the network.
    pub fn new(model: &Model, facts: &CardFacts<'_>) -> Result<Self, CardError> {
        let network = model.network();
        let layers = layer_cards(model, &sum_bounds(model, facts.input_table));
        let mut provenance = facts.provenance.cloned();
        if let Some(task) = provenance.as_mut().and_then(|p| p.task.as_mut()) {
            task.input_table = None;
        }
        Ok(Self {
            model_root: Hash32(model.root()),
            artefact_bytes: encoded_bytes(network).unwrap_or(u64::MAX),
            engine_version: ENGINE_VERSION,
            input: network.input,
            classes: network.classes,
            dense: network.dense,
            parameters: network.parameters(),
            macs: network.macs(),
            mac_bits: network.mac_bits(),
            float32_exact: layers.iter().all(|layer| layer.float32_exact),
            layers,
            evaluation: facts.evaluation.clone(),
            cost: facts.bounds.map(|bounds| cost_card(model, bounds)).transpose()?,
            provenance,
            input_table: facts.input_table.map(<[_]>::to_vec),
        })
    }
}

fn cost_card(model: &Model, bounds: Bounds) -> Result<CostCard, CardError> {
    let network = model.network();
    let by = |model| evaluate(model, &network.architecture(), network.input, bounds).map(Answer::new);
    let design = Pipeline::new(network, Memory::default())?.within(bounds);
    Ok(CostCard {
        bounds,
        corrected: by(CostModel::Corrected)?,
        naqs: by(CostModel::Naqs)?,
        finn: Answer::new(design.map(|design| design.cost())),
    })
}

fn layer_cards(model: &Model, bounds: &[SumBound]) -> Vec<LayerCard> {
    let network = model.network();
    let mut bounds = bounds.iter();
    let mut input_bits = INPUT_BITS.total_bits();
    let mut cards = Vec::with_capacity(network.convs.len() + 2);
    for (index, conv) in network.convs.iter().enumerate() {
        let card = conv_card(format!("conv{index}"), conv);
        cards.extend(bounds.next().map(|bound| card.with(input_bits, bound)));
        input_bits = conv.layer.act.total_bits();
    }
    let dense = network.dense;
    for (name, shape, act) in [("hidden", network.hidden, Some(dense.act)), ("output", network.output, None)] {
        let card = dense_card(name, shape, act, dense.weight);
        cards.extend(bounds.next().map(|bound| card.with(input_bits, bound)));
        input_bits = dense.act.total_bits();
    }
    cards
}

fn conv_card(name: String, conv: &ConvShape) -> LayerCard {
    let (layer, outputs) = (&conv.layer, u64::from(conv.out_channels()));
    LayerCard {
        name,
        kind: "conv",
        input: [conv.in_channels, conv.rows.input, conv.columns.input],
        output: [conv.out_channels(), conv.out_height(), conv.out_width()],
        kernel: Some(layer.kernel),
        stride: Some(layer.stride),
        pool: Some(layer.pool),
        act: Some(layer.act),
        weight: layer.weight,
        parameters: outputs * (conv.fan_in() + 1),
        // Networks whose work overflows are refused.
        macs: conv.macs().unwrap_or(u64::MAX),
        ..LayerCard::blank()
    }
}

fn dense_card(name: &str, shape: DenseShape, act: Option<FixedPoint>, weight: FixedPoint) -> LayerCard {
    LayerCard {
        name: name.into(),
        kind: "dense",
        input: [shape.inputs, 1, 1],
        output: [shape.outputs, 1, 1],
        act,
        weight,
        parameters: shape.macs() + u64::from(shape.outputs),
        macs: shape.macs(),
        ..LayerCard::blank()
    }
}

impl LayerCard {
    fn blank() -> Self {
        Self {
            name: String::new(),
            kind: "",
            input: [0; 3],
            output: [0; 3],
            kernel: None,
            stride: None,
            pool: None,
            act: None,
            weight: FixedPoint::new(0, 0),
            parameters: 0,
            macs: 0,
            mac_bits: 0,
            sum: [0; 2],
            accumulator_bits: 0,
            float32_exact: true,
        }
    }

    fn with(self, input_bits: u32, bound: &SumBound) -> Self {
        Self {
            mac_bits: self.macs.saturating_mul(u64::from(input_bits) * u64::from(self.weight.total_bits())),
            sum: [bound.low, bound.high],
            accumulator_bits: bound.accumulator_bits(),
            float32_exact: bound.is_float32_exact(),
            ..self
        }
    }
}
