//! Pinned results of the integer engine: the same on every processor, in debug and release, with any thread count.

use podl_consensus::workload::{Architecture, DenseConfig, FixedPoint, InputShape, Network};
use podl_nas::artefact::{Model, Parameters, decode};
use podl_nas::data::{Random, generate, input_table};
use podl_nas::engine::{Engine, reference};

const IMAGES: u32 = 70;

/// The architecture files of the test folder, in their JSON form.
const NETWORKS: [(&str, &str); 3] = [
    ("golden-36x6", include_str!("golden/golden-36x6.json")),
    ("mixed-strided", include_str!("golden/mixed-strided.json")),
    ("odd-formats", include_str!("golden/odd-formats.json")),
];

fn network(text: &str) -> Network {
    let architecture: Architecture = serde_json::from_str(text).unwrap();
    Network::new(&architecture, InputShape::CIFAR, 10, DenseConfig::default()).unwrap()
}

/// A model with parameters from the pinned generator, a quarter of the format's range wide so that layers neither die
/// nor saturate.
fn model(network: Network) -> Model {
    let mut random = Random::new("golden engine test", &[1; 32], 0);
    let mut layer = |outputs: u32, weights: u64, format: FixedPoint| {
        let most = i32::try_from((format.signed_range().1 / 4).max(1)).unwrap();
        let mut tensor = |count: u64| (0..count).map(|_| i16::try_from(random.between(-most, most)).unwrap()).collect();
        Parameters { weights: tensor(weights), biases: tensor(outputs.into()) }
    };
    let mut layers: Vec<Parameters> = network
        .convs
        .iter()
        .map(|conv| layer(conv.out_channels(), u64::from(conv.out_channels()) * conv.fan_in(), conv.layer.weight))
        .collect();
    let dense = network.dense.weight;
    layers.extend([network.hidden, network.output].map(|shape| layer(shape.outputs, shape.macs(), dense)));
    Model::new(network, layers).unwrap()
}

#[test]
fn roots_and_classes_are_pinned() {
    let data = generate(&[7; 32], IMAGES);
    let table = input_table(&data);
    let mut lines = Vec::new();
    for (name, text) in NETWORKS {
        let model = model(network(text));
        let caps = podl_chain_spec::ChainSpec::load("dev").unwrap().caps;
        assert_eq!(decode(&model.encode(), &caps).unwrap(), model);
        let engine = Engine::new(&model, &table).unwrap();
        let classes = engine.classify(&data.images, 1).unwrap();
        for threads in 2..=4 {
            assert_eq!(engine.classify(&data.images, threads).unwrap(), classes);
        }
        for index in [0, 69] {
            assert_eq!(reference::classify(&model, &table, data.image(index)), classes[index]);
        }
        let root: String = model.root().iter().map(|byte| format!("{byte:02x}")).collect();
        let classes: String = classes.iter().map(u16::to_string).collect();
        lines.push(format!("{name} {root} {classes}"));
    }
    let pinned: Vec<&str> = include_str!("golden/engine_v1.txt").lines().collect();
    // A change here is a change of consensus: ENGINE_VERSION must change with it.
    assert_eq!(lines, pinned);
}

#[test]
fn architecture_files_are_strict() {
    let text = NETWORKS[0].1;
    let architecture: Architecture = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&architecture).unwrap(), text.trim());
    for (good, bad) in [
        ("\"pool\":2", "\"pool\":2,\"dropout\":1"),
        ("\"pool\":2,", ""),
        ("\"act\":[1,4]", "\"act\":[1]"),
        ("\"act\":[1,4]", "\"act\":[1,-4]"),
        ("\"filters\":36", "\"filters\":70000"),
        ("{\"layers\"", "{\"name\":1,\"layers\""),
    ] {
        let text = text.replacen(good, bad, 1);
        assert!(serde_json::from_str::<Architecture>(&text).is_err(), "{bad}");
    }
}

#[test]
fn space_files_read_back() {
    use podl_consensus::workload::{PRESET_NAMES, Space};
    for name in PRESET_NAMES {
        let space = Space::preset(name, 6).unwrap();
        let text = serde_json::to_string(&space).unwrap();
        assert_eq!(serde_json::from_str::<Space>(&text).unwrap(), space);
    }
    let short = r#"{"conv_layers":2,"kernel_height":[3],"kernel_width":[3],"filters":[8],"stride_height":[1],
        "stride_width":[1],"pool":[1,2],"act_int":[1],"act_frac":[4],"weight_int":[1],"weight_frac":[5]}"#;
    let space: Space = serde_json::from_str(short).unwrap();
    assert_eq!(space.dense, DenseConfig::default());
    assert!(serde_json::from_str::<Space>(&short.replace("\"pool\"", "\"pools\"")).is_err());
}
