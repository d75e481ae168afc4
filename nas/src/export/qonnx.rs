//! The graph of a model, layer by layer.

use podl_chain_spec::Hash32;
use podl_consensus::workload::{ConvShape, FixedPoint, Span};
use prost::Message;
use serde_json::json;

use super::exact::{SumBound, sum_bounds};
use super::graph::{GraphBuilder, Grid, QONNX_DOMAIN, Tensor, int, ints, step};
use super::input::{add_stage, image_shape};
use super::onnx::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use super::{ExportError, InputForm, QonnxOptions};
use crate::artefact::{Model, Parameters};
use crate::engine::INPUT_FRAC_BITS;

/// ONNX version whose operators the graph uses; the public tools are at home in it.
const OPSET: i64 = 11;
/// Intermediate representation that came with that version.
const IR_VERSION: i64 = 6;
/// Protocol buffers end here.
const MOST_BYTES: u64 = i32::MAX as u64;

/// An exported graph.
#[derive(Clone, Debug)]
pub struct Qonnx {
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// What the graph's input is.
    pub input: InputStage,
    /// How large the sums of each layer can grow.
    pub bounds: Vec<SumBound>,
}

/// How an exported graph takes its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputStage {
    /// Pixels 0 to 255; the graph computes the input table (multiply, add, quantise).
    PixelsComputed,
    /// Pixels 0 to 255; the graph looks the input table up.
    PixelsLookedUp,
    /// Values of the input table, divided by 256.
    Values,
}

impl Qonnx {
    /// Whether 32-bit floats compute this graph without ever rounding, whatever the image and the order of sums.
    pub fn is_float32_exact(&self) -> bool {
        self.bounds.iter().all(SumBound::is_float32_exact)
    }
}

/// The model as a QONNX graph; equal arguments give equal bytes.
///
/// # Errors
/// [`ExportError`] for an input table of another form, for one that is missing where the graph is to take pixels, and
/// for models beyond the size of an ONNX file.
pub fn qonnx(model: &Model, options: &QonnxOptions<'_>) -> Result<Qonnx, ExportError> {
    let network = model.network();
    let got = network.parameters().saturating_mul(4);
    if got > MOST_BYTES / 2 {
        return Err(ExportError::TooLarge { got, limit: MOST_BYTES / 2 });
    }
    options.check_table(network.input.channels)?;
    let mut graph = GraphBuilder::new("podl");
    let (values, input) = add_input(&mut graph, model, options)?;
    let logits = add_layers(&mut graph, model, values);
    let bounds = sum_bounds(model, options.input_table);
    let mut exported = Qonnx { bytes: Vec::new(), input, bounds };
    let proto = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: "podl".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "An integer network for FPGAs, exact in its own integers; see the metadata under podl.".into(),
        graph: Some(graph.finish(&logits)),
        opset_import: [("", OPSET), (QONNX_DOMAIN, 1)]
            .map(|(domain, version)| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) })
            .into(),
        metadata_props: metadata(model, options, &exported),
    };
    exported.bytes = proto.encode_to_vec();
    Ok(exported)
}

fn add_input(
    graph: &mut GraphBuilder,
    model: &Model,
    options: &QonnxOptions<'_>,
) -> Result<(Tensor, InputStage), ExportError> {
    let shape = image_shape(model.network().input);
    match options.input {
        InputForm::Values => Ok((graph.input(Tensor::floats("values", &shape)), InputStage::Values)),
        InputForm::Pixels => {
            let table = options.input_table.ok_or(ExportError::NoInputTable)?;
            let pixels = graph.input(Tensor::floats("pixels", &shape));
            let (values, is_lookup) = add_stage(graph, &pixels, table);
            let stage = if is_lookup { InputStage::PixelsLookedUp } else { InputStage::PixelsComputed };
            Ok((values, stage))
        }
    }
}

fn add_layers(graph: &mut GraphBuilder, model: &Model, mut values: Tensor) -> Tensor {
    let network = model.network();
    for (index, (conv, parameters)) in network.convs.iter().zip(model.layers()).enumerate() {
        values = add_conv(graph, &format!("conv{index}"), conv, parameters, &values);
    }
    let flat = Tensor::floats("flat", &[1, network.hidden.inputs]);
    let mut values = graph.apply("Flatten", &[&values], flat, vec![int("axis", 1)]);
    if let [.., hidden, output] = model.layers() {
        let weight = network.dense.weight;
        let sum = add_dense(graph, "hidden", hidden, weight, &values, "hidden.sum");
        values = add_activation(graph, "hidden", &sum, network.dense.act);
        values = add_dense(graph, "output", output, weight, &values, "logits");
    }
    values
}

/// The format of weights as a quantiser has it. One signed bit would mean -1 and +1 there, here it means -1 and 0: it
/// is declared as two, of whose values (-2 to 1) only these occur.
fn weight_grid(format: FixedPoint) -> Grid {
    Grid { frac_bits: format.frac_bits, bits: format.total_bits().max(2), is_signed: true }
}

/// A parameter tensor behind its quantiser. The integers times the step are on the grid already, so that the quantiser
/// changes nothing and only says what they are.
fn add_parameters(
    graph: &mut GraphBuilder,
    name: &str,
    shape: &[u32],
    integers: impl IntoIterator<Item = i16>,
    format: FixedPoint,
    is_bias: bool,
) -> Tensor {
    let step = step(format.frac_bits);
    let values = integers.into_iter().map(|integer| f32::from(integer) * step);
    let constant = graph.constant(Tensor::floats(name, shape), values);
    graph.quantise(&constant, &format!("{name}.quantised"), weight_grid(format), is_bias)
}

/// Pads in ONNX's order: before rows, before columns, behind rows, behind columns.
fn pads(rows: Span, columns: Span) -> [u32; 4] {
    [rows.pad_low, columns.pad_low, rows.pad_high, columns.pad_high]
}

fn add_conv(graph: &mut GraphBuilder, name: &str, conv: &ConvShape, parameters: &Parameters, x: &Tensor) -> Tensor {
    let layer = &conv.layer;
    let [height, width] = layer.kernel.map(u32::from);
    let outputs = conv.out_channels();
    let shape = [outputs, conv.in_channels, height, width];
    let weights = parameters.weights.iter().copied();
    let weights = add_parameters(graph, &format!("{name}.weight"), &shape, weights, layer.weight, false);
    let biases = parameters.biases.iter().copied();
    let bias = add_parameters(graph, &format!("{name}.bias"), &[outputs], biases, layer.weight, true);
    let attributes = vec![
        ints("dilations", [1, 1]),
        int("group", 1),
        ints("kernel_shape", [height, width]),
        ints("pads", pads(conv.rows, conv.columns)),
        ints("strides", layer.stride.map(u32::from)),
    ];
    let sum = Tensor::floats(format!("{name}.sum"), &[1, outputs, conv.rows.output, conv.columns.output]);
    let sum = graph.apply("Conv", &[x, &weights, &bias], sum, attributes);
    let activations = add_activation(graph, name, &sum, layer.act);
    add_pool(graph, name, conv, &activations)
}

/// One axis of a max-pool. A single window that reaches beyond the axis is cut to it, which needs no padding: uneven
/// pads are what public tools support least.
fn pool_axis(span: Span, window: u8) -> (u32, Span) {
    if span.output == 1 { (span.input, Span { pad_low: 0, pad_high: 0, ..span }) } else { (window.into(), span) }
}

fn add_pool(graph: &mut GraphBuilder, name: &str, conv: &ConvShape, x: &Tensor) -> Tensor {
    let (height, rows) = pool_axis(conv.pool_rows, conv.layer.pool);
    let (width, columns) = pool_axis(conv.pool_columns, conv.layer.pool);
    if (height, width) == (1, 1) {
        return x.clone();
    }
    let window = [height, width];
    let attributes = vec![ints("kernel_shape", window), ints("pads", pads(rows, columns)), ints("strides", window)];
    let shape = [1, conv.out_channels(), conv.out_height(), conv.out_width()];
    graph.apply("MaxPool", &[x], Tensor::floats(format!("{name}.pooled"), &shape), attributes)
}

fn add_activation(graph: &mut GraphBuilder, name: &str, sum: &Tensor, act: FixedPoint) -> Tensor {
    let relu = graph.apply("Relu", &[sum], Tensor::floats(format!("{name}.relu"), &sum.shape), vec![]);
    let grid = Grid { frac_bits: act.frac_bits, bits: act.total_bits(), is_signed: false };
    graph.quantise(&relu, &format!("{name}.activation"), grid, false)
}

/// A dense layer as a product and a sum: the forms that the public transformations know best.
fn add_dense(
    graph: &mut GraphBuilder,
    name: &str,
    parameters: &Parameters,
    format: FixedPoint,
    x: &Tensor,
    result: &str,
) -> Tensor {
    let outputs = parameters.biases.len();
    let inputs = parameters.weights.len() / outputs.max(1);
    // From [output][input] to [input][output].
    let weights = &parameters.weights;
    let transposed = (0..inputs).flat_map(|input| weights[input..].iter().step_by(inputs).copied());
    // Networks count outputs in 32 bits.
    let outputs = u32::try_from(outputs).unwrap_or(u32::MAX);
    let shape = [x.shape[1], outputs];
    let weights = add_parameters(graph, &format!("{name}.weight"), &shape, transposed, format, false);
    let biases = parameters.biases.iter().copied();
    let bias = add_parameters(graph, &format!("{name}.bias"), &[outputs], biases, format, true);
    let product = Tensor::floats(format!("{name}.product"), &[1, outputs]);
    let product = graph.apply("MatMul", &[x, &weights], product, vec![]);
    graph.apply("Add", &[&product, &bias], Tensor::floats(result, &[1, outputs]), vec![])
}

fn metadata(model: &Model, options: &QonnxOptions<'_>, exported: &Qonnx) -> Vec<StringStringEntryProto> {
    let network = model.network();
    let input = network.input;
    let name = |stage: InputStage| serde_json::to_value(stage).ok().and_then(|v| v.as_str().map(str::to_owned));
    let mut entries = vec![
        ("podl.model_root", Hash32(model.root()).to_string()),
        ("podl.input", name(exported.input).unwrap_or_default()),
        ("podl.input_shape", json!([input.channels, input.height, input.width]).to_string()),
        ("podl.input_frac_bits", INPUT_FRAC_BITS.to_string()),
        ("podl.classes", network.classes.to_string()),
        ("podl.architecture", json!(network.architecture()).to_string()),
        ("podl.dense", json!(network.dense).to_string()),
        ("podl.float32_exact", exported.is_float32_exact().to_string()),
        ("podl.sum_bounds", json!(exported.bounds.iter().map(|b| [b.low, b.high]).collect::<Vec<_>>()).to_string()),
    ];
    if let Some(table) = options.input_table {
        entries.push(("podl.input_table", json!(table).to_string()));
    }
    if let Some(provenance) = options.provenance {
        // The table stands by itself.
        let mut provenance = provenance.clone();
        if let Some(task) = &mut provenance.task {
            task.input_table = None;
        }
        entries.push(("podl.provenance", json!(provenance).to_string()));
    }
    entries.into_iter().map(|(key, value)| StringStringEntryProto { key: key.into(), value }).collect()
}
