use std::collections::{BTreeMap, BTreeSet};

use podl_consensus::testkit::golden_architecture;
use podl_consensus::workload::{Architecture, ConvLayer, ConvShape, DenseConfig, FixedPoint, InputShape, Network};
use proptest::prelude::*;
use prost::Message;

use super::graph::QONNX_DOMAIN;
use super::input::{Line, table_bits};
use super::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::*;
use crate::artefact::{Model, Parameters};
use crate::data::{Dataset, input_table};
use crate::engine::reference;
use crate::testing::{model, model_of, next};

/// The table that a data set of these pixels has in every channel.
fn rounded_line(channels: u8, pixels: [u8; 2]) -> Vec<Vec<i16>> {
    let shape = InputShape { channels: 1, height: 1, width: 2 };
    let data = Dataset { shape, classes: 2, images: pixels.to_vec(), labels: vec![0] };
    vec![input_table(&data).remove(0); channels.into()]
}

fn random_table(channels: u8, mut seed: u64) -> Vec<Vec<i16>> {
    let mut value = || i16::try_from(next(&mut seed) % 1401).unwrap() - 700;
    (0..channels).map(|_| (0..256).map(|_| value()).collect()).collect()
}

fn options(input_table: Option<&[Vec<i16>]>, input: InputForm) -> QonnxOptions<'_> {
    QonnxOptions { input_table, input, provenance: None }
}

fn decoded(bytes: &[u8]) -> (ModelProto, GraphProto) {
    let proto = ModelProto::decode(bytes).unwrap();
    let graph = proto.graph.clone().unwrap();
    (proto, graph)
}

fn shape(info: &ValueInfoProto) -> Vec<i64> {
    let tensor = info.r#type.clone().unwrap().tensor_type.unwrap();
    tensor.shape.unwrap().dim.iter().map(|dim| dim.dim_value.unwrap()).collect()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn numbers(node: &NodeProto, name: &str) -> Vec<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).unwrap().ints.clone()
}

/// Shapes of everything that has one, by name.
fn shapes(graph: &GraphProto) -> BTreeMap<String, Vec<i64>> {
    let values = graph.input.iter().chain(&graph.value_info).chain(&graph.output);
    let values = values.map(|info| (info.name.clone(), shape(info)));
    values.chain(graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.dims.clone()))).collect()
}

/// Every input of a node is there before the node, every name is written once, every node writes one shaped tensor.
fn check_order(graph: &GraphProto) {
    let shapes = shapes(graph);
    let given = graph.input.iter().map(|info| info.name.clone());
    let mut known: BTreeSet<String> = given.chain(graph.initializer.iter().map(|t| t.name.clone())).collect();
    assert_eq!(known.len(), graph.input.len() + graph.initializer.len());
    for node in &graph.node {
        assert!(node.input.iter().all(|name| known.contains(name)), "{node:?}");
        assert_eq!(node.output.len(), 1);
        assert!(shapes.contains_key(&node.output[0]) && known.insert(node.output[0].clone()), "{node:?}");
    }
}

/// Output shape of a window operator by the formula of the ONNX specification.
fn window_shape(input: &[i64], channels: i64, node: &NodeProto) -> Vec<i64> {
    let (kernel, pads, strides) = (numbers(node, "kernel_shape"), numbers(node, "pads"), numbers(node, "strides"));
    let length = |axis: usize| (input[2 + axis] + pads[axis] + pads[2 + axis] - kernel[axis]) / strides[axis] + 1;
    // Executors refuse windows that lie in the padding alone.
    assert!((0..2).all(|axis| pads[axis] < kernel[axis] && pads[2 + axis] < kernel[axis]));
    vec![1, channels, length(0), length(1)]
}

fn check_windows(model: &Model, graph: &GraphProto) {
    let shapes = shapes(graph);
    let of = |kind: &'static str| graph.node.iter().filter(move |node| node.op_type == kind);
    let convs = &model.network().convs;
    assert_eq!(of("Conv").count(), convs.len());
    for (node, conv) in of("Conv").zip(convs) {
        let expected = window_shape(&shapes[&node.input[0]], conv.out_channels().into(), node);
        assert_eq!(shapes[&node.output[0]], expected);
        let pads = [conv.rows.pad_low, conv.columns.pad_low, conv.rows.pad_high, conv.columns.pad_high];
        assert_eq!(numbers(node, "pads"), pads.map(i64::from));
        assert_eq!(numbers(node, "strides"), conv.layer.stride.map(i64::from));
    }
    // Only what a pool leaves smaller, or pads, is a pool.
    let is_pooled =
        |conv: &&ConvShape| conv.layer.pool > 1 && (conv.pool_rows.input, conv.pool_columns.input) != (1, 1);
    let pooled: Vec<_> = convs.iter().filter(is_pooled).collect();
    assert_eq!(of("MaxPool").count(), pooled.len());
    for (node, conv) in of("MaxPool").zip(pooled) {
        let expected = [1, conv.out_channels(), conv.out_height(), conv.out_width()].map(i64::from);
        assert_eq!(window_shape(&shapes[&node.input[0]], expected[1], node), expected);
        assert_eq!(shapes[&node.output[0]], expected);
    }
}

/// Dividing the constants by their quantiser's scale gives the model's integers, which its range holds.
fn check_parameters(model: &Model, graph: &GraphProto) {
    let constants: BTreeMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let only = |name: &str| floats(constants[name])[0];
    let convs = (0..model.network().convs.len()).map(|index| format!("conv{index}"));
    for (name, layer) in convs.chain(["hidden".into(), "output".into()]).zip(model.layers()) {
        for (part, integers) in [("weight", &layer.weights), ("bias", &layer.biases)] {
            let quantiser = format!("{name}.{part}.quantised");
            let scale = only(&format!("{quantiser}.scale"));
            let bits = only(&format!("{quantiser}.bit_width")) as u32;
            let tensor = constants[format!("{name}.{part}").as_str()];
            let mut found: Vec<i16> = floats(tensor).iter().map(|value| (value / scale) as i16).collect();
            if part == "weight" && !name.starts_with("conv") {
                let outputs = layer.biases.len();
                let inputs = found.len() / outputs;
                found = (0..found.len()).map(|at| found[(at % inputs) * outputs + at / inputs]).collect();
            }
            assert_eq!(&found, integers, "{name}.{part}");
            assert!(
                bits >= 2 && integers.iter().all(|&q| (-(1 << (bits - 1))..1 << (bits - 1)).contains(&i32::from(q)))
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn graphs_say_what_the_model_is(model in model(), seed in any::<u64>(), pixels in [0u8..100, 130u8..255]) {
        let channels = model.network().input.channels;
        let tables = [random_table(channels, seed), rounded_line(channels, pixels)];
        for (table, stage) in tables.iter().zip([InputStage::PixelsLookedUp, InputStage::PixelsComputed]) {
            let exported = qonnx(&model, &options(Some(table), InputForm::Pixels)).unwrap();
            prop_assert_eq!(exported.input, stage);
            let (proto, graph) = decoded(&exported.bytes);
            prop_assert_eq!(proto.encode_to_vec(), exported.bytes);
            check_order(&graph);
            check_windows(&model, &graph);
            check_parameters(&model, &graph);
            prop_assert_eq!(shape(&graph.output[0]), [1, i64::from(model.network().classes)]);
        }
    }

    /// No logit that the engine's rules give is outside of the bound of the output layer.
    #[test]
    fn logits_keep_to_their_bound(model in model(), seed in any::<u64>()) {
        let input = model.network().input;
        let table = random_table(input.channels, seed);
        let mut state = seed;
        let image: Vec<u8> = (0..input.values()).map(|_| (next(&mut state) >> 56) as u8).collect();
        let bound = *sum_bounds(&model, Some(&table)).last().unwrap();
        for logit in reference::logits(&model, &table, &image) {
            prop_assert!((bound.low..=bound.high).contains(&logit));
        }
    }

    #[test]
    fn cards_add_up(model in model(), bounds in (1u64..200_000, 1u64..10_000)) {
        let bounds = podl_consensus::workload::Bounds { lut: bounds.0, throughput: bounds.1 };
        let card = Card::new(&model, &CardFacts { bounds: Some(bounds), ..CardFacts::default() }).unwrap();
        let sum = |of: fn(&LayerCard) -> u64| card.layers.iter().map(of).sum::<u64>();
        prop_assert_eq!(sum(|layer| layer.macs), model.network().macs());
        prop_assert_eq!(sum(|layer| layer.mac_bits), model.network().mac_bits());
        prop_assert_eq!(sum(|layer| layer.parameters), model.network().parameters());
        prop_assert_eq!(card.artefact_bytes, model.encode().len() as u64);
        prop_assert_eq!(card.markdown().lines().filter(|line| line.starts_with("| conv")).count(), card.layers.len() - 2);
    }

    /// Every table that comes from a mean and a deviation is computed, not looked up, unless its ends are clamped.
    #[test]
    fn tables_of_data_sets_are_lines(pixels in proptest::collection::vec(any::<u8>(), 2..60)) {
        let shape = InputShape { channels: 1, height: 1, width: u8::try_from(pixels.len()).unwrap() };
        let table = input_table(&Dataset { shape, classes: 2, images: pixels, labels: vec![0] }).remove(0);
        prop_assume!(table.iter().all(|value| value.abs() < i16::MAX));
        let line = Line::through(&table).unwrap();
        for (byte, &value) in (0u16..).zip(&table) {
            let computed = ((f32::from(byte) * line.step + line.offset) * 256.0).round_ties_even();
            prop_assert_eq!(computed as i16, value);
        }
    }
}

fn golden() -> Model {
    model_of(Network::new(&golden_architecture(), InputShape::CIFAR, 10, DenseConfig::default()).unwrap(), 3)
}

#[test]
fn versions_domains_and_attributes() {
    let table = rounded_line(3, [60, 190]);
    let exported = qonnx(&golden(), &options(Some(&table), InputForm::Pixels)).unwrap();
    let (proto, graph) = decoded(&exported.bytes);
    let opsets: Vec<_> = proto.opset_import.iter().map(|set| (set.domain.clone().unwrap(), set.version)).collect();
    assert_eq!(opsets, [(String::new(), Some(11)), (QONNX_DOMAIN.into(), Some(1))]);
    assert_eq!((proto.ir_version, proto.producer_name.as_str()), (Some(6), "podl"));
    let operators: Vec<&str> = graph.node.iter().take(9).map(|node| node.op_type.as_str()).collect();
    assert_eq!(operators, ["Mul", "Add", "Quant", "Quant", "Quant", "Conv", "Relu", "Quant", "MaxPool"]);
    for node in graph.node.iter().filter(|node| node.op_type == "Quant") {
        let value = |name: &str| node.attribute.iter().find(|a| a.name == name).unwrap().clone();
        assert_eq!((node.domain.as_str(), value("narrow").i), (QONNX_DOMAIN, Some(0)));
        assert_eq!(value("rounding_mode").s.unwrap(), b"ROUND");
        assert_eq!(value("signed").i, Some(i64::from(!node.output[0].ends_with("activation"))));
    }
    let again = qonnx(&golden(), &options(Some(&table), InputForm::Pixels)).unwrap();
    assert_eq!(again.bytes, exported.bytes);
}

#[test]
fn metadata_names_model_and_table() {
    let table = rounded_line(3, [60, 190]);
    let provenance = Provenance {
        model_root: podl_chain_spec::Hash32(golden().root()),
        chain_name: Some("dev".into()),
        chain: None,
        won: None,
        task: None,
    };
    let options = QonnxOptions { provenance: Some(&provenance), ..options(Some(&table), InputForm::Values) };
    let (proto, graph) = decoded(&qonnx(&golden(), &options).unwrap().bytes);
    let entries: BTreeMap<_, _> = proto.metadata_props.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect();
    assert_eq!(entries["podl.model_root"], provenance.model_root.to_string());
    assert_eq!(serde_json::from_str::<Vec<Vec<i16>>>(entries["podl.input_table"]).unwrap(), table);
    assert_eq!(serde_json::from_str::<Provenance>(entries["podl.provenance"]).unwrap(), provenance);
    assert_eq!((entries["podl.input"], entries["podl.classes"]), ("values", "10"));
    assert_eq!((graph.input[0].name.as_str(), shape(&graph.input[0])), ("values", vec![1, 3, 32, 32]));
}

#[test]
fn wrong_tables_are_refused() {
    let model = golden();
    let error = |table: Option<&[Vec<i16>]>, form| qonnx(&model, &options(table, form)).unwrap_err();
    assert_eq!(error(None, InputForm::Pixels), ExportError::NoInputTable);
    let short = vec![vec![0; 256], vec![0; 256], vec![0; 255]];
    let expected = ExportError::InputTable { got: vec![256, 256, 255], channels: 3 };
    assert_eq!(error(Some(&short), InputForm::Values), expected);
    assert!(qonnx(&model, &options(None, InputForm::Values)).is_ok());
}

#[test]
fn bits_of_tables() {
    let bits = |values: &[i16]| table_bits(&[values.to_vec()]);
    assert_eq!((bits(&[0]), bits(&[1]), bits(&[-2]), bits(&[2]), bits(&[-3])), (2, 2, 2, 3, 3));
    assert_eq!((bits(&[511]), bits(&[-512]), bits(&[512]), bits(&[i16::MAX]), bits(&[i16::MIN])), (10, 10, 11, 16, 16));
}

/// One layer of one weight or two, by hand.
#[test]
fn bounds_by_hand() {
    let input = InputShape { channels: 2, height: 1, width: 1 };
    let conv = ConvLayer {
        kernel: [1, 1],
        filters: 1,
        stride: [1, 1],
        pool: 1,
        act: FixedPoint::new(2, 0),
        weight: FixedPoint::new(4, 2),
    };
    let dense = DenseConfig { width: 1, act: FixedPoint::new(1, 1), weight: FixedPoint::new(3, 1) };
    let network = Network::new(&Architecture { layers: vec![conv] }, input, 2, dense).unwrap();
    let layers = [(vec![3, -5], vec![-2]), (vec![2], vec![1]), (vec![-1, 3], vec![4, -3])];
    let layers = layers.map(|(weights, biases)| Parameters { weights, biases });
    let model = Model::new(network, layers.to_vec()).unwrap();
    let mut table = vec![vec![0; 256]; 2];
    (table[0][7], table[0][9], table[1][3]) = (10, -20, 100);
    let bounds = sum_bounds(&model, Some(&table));
    // 3 x [-20, 10] and -5 x [0, 100], bias -2 x 256; then inputs 0 to 3, where the wider of two outputs counts:
    // -1 x [0, 3] with 4 x 2, and 3 x [0, 3] with -3 x 2.
    let expected = [(-60 - 500 - 512, 30, 10), (0, 6 + 1, 1), (-6, 9, 2)];
    let found: Vec<_> = bounds.iter().map(|bound| (bound.low, bound.high, bound.frac_bits)).collect();
    assert_eq!(found, expected);
    assert_eq!(bounds.iter().map(SumBound::accumulator_bits).collect::<Vec<_>>(), [12, 4, 5]);
    let exact = |low, high| SumBound { low, high, frac_bits: 0 }.is_float32_exact();
    assert!(exact(-(1 << 24), 1 << 24) && !exact(0, (1 << 24) + 1) && !exact(-(1 << 24) - 1, 0));
    // Any 16-bit input: 5 x 32,768 upwards.
    assert_eq!(sum_bounds(&model, None)[0].high, 3 * 32_767 + 5 * 32_768);
}

#[test]
fn markdown_says_where_floats_round() {
    let table = rounded_line(3, [60, 190]);
    let facts = CardFacts { input_table: Some(&table), ..CardFacts::default() };
    let text = Card::new(&golden(), &facts).unwrap().markdown();
    assert!(text.contains("| accuracy | not evaluated |") && text.contains("compute this model exactly"), "{text}");
    let layer = ConvLayer {
        act: FixedPoint::new(7, 7),
        weight: FixedPoint::new(7, 7),
        ..golden().network().convs[0].layer.clone()
    };
    let architecture = Architecture { layers: vec![layer; 2] };
    let wide = model_of(Network::new(&architecture, InputShape::CIFAR, 10, DenseConfig::default()).unwrap(), 4);
    let text = Card::new(&wide, &facts).unwrap().markdown();
    assert!(text.contains("32-bit floats may round: sums of conv0, conv1, hidden can exceed"), "{text}");
}

/// Writes random networks with images and the logits of the engine's plain rules to the folder that
/// `PODL_EXPORT_SAMPLES` names, for scripts/check_qonnx.py to run them through the public executor.
#[test]
#[ignore = "writes files for scripts/test-export.sh"]
fn write_samples() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    const SAMPLES: u64 = 48;
    let folder = std::path::PathBuf::from(std::env::var_os("PODL_EXPORT_SAMPLES").expect("PODL_EXPORT_SAMPLES"));
    let mut runner = TestRunner::deterministic();
    for index in 0..SAMPLES {
        let model = model().new_tree(&mut runner).unwrap().current();
        let input = model.network().input;
        let (table, form) = match index % 3 {
            0 => (rounded_line(input.channels, [50, (60 + 3 * index) as u8]), InputForm::Pixels),
            1 => (random_table(input.channels, index), InputForm::Pixels),
            _ => (random_table(input.channels, index), InputForm::Values),
        };
        let exported = qonnx(&model, &options(Some(&table), form)).unwrap();
        let mut state = index;
        let images: Vec<u8> = (0..4 * input.values()).map(|_| (next(&mut state) >> 56) as u8).collect();
        let logits: Vec<Vec<i64>> =
            images.chunks(input.values()).map(|image| reference::logits(&model, &table, image)).collect();
        let frac_bits = exported.bounds.last().unwrap().frac_bits;
        std::fs::write(folder.join(format!("{index}.onnx")), &exported.bytes).unwrap();
        std::fs::write(folder.join(format!("{index}.images")), images).unwrap();
        let expected = serde_json::json!({ "frac_bits": frac_bits, "logits": logits });
        std::fs::write(folder.join(format!("{index}.json")), expected.to_string()).unwrap();
    }
}
