//! Data sets from files, through the program and to a published task: IDX and image folders of shapes of their own.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use image::{GrayImage, Luma, Rgb, RgbImage};
use podl_chain_spec::{Amount, ChainSpec};
use podl_consensus::shard::open_checked;
use podl_consensus::workload::{Architecture, Bounds, ConvLayer, FixedPoint, Network, Space, WorkVerifier};
use podl_nas::Verifier;
use podl_nas::data::{DatasetSpec, decode_dataset};
use podl_nas::train::{ThreadPool, TrainConfig, TrainJob, train_child};
use podl_node::publish::{Recipe, prepare, split_data};
use serde_json::Value;

const ARCH: &str = r#"{"layers":[{"kernel":[3,3],"filters":8,"stride":[2,2],"pool":2,"act":[2,4],"weight":[2,5]}]}"#;

fn podl(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podl"));
    command.args(args).current_dir(folder).env_clear().env("HOME", folder).output().unwrap()
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let output = podl(folder, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder `digits` of grey 28x28 IDX files (10 classes) and a folder `shades` of coloured PNG files (3 classes).
fn folders() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let digits = folder.path().join("digits");
    std::fs::create_dir(&digits).unwrap();
    let write = |name: &str, sizes: &[u32], elements: &[u8]| {
        let header = [0, 0, 8, sizes.len() as u8].into_iter().chain(sizes.iter().flat_map(|size| size.to_be_bytes()));
        std::fs::write(digits.join(name), header.chain(elements.iter().copied()).collect::<Vec<u8>>()).unwrap();
    };
    for (part, count) in [("train", 300u32), ("t10k", 120)] {
        let labels: Vec<u8> = (0..count).map(|index| (index % 10) as u8).collect();
        // Class c has a bright bar in rows 2c and 2c + 1.
        let image =
            |label: u8| (0..784u32).map(move |at| if at / 56 == u32::from(label) { 220 } else { (at % 50) as u8 });
        write(
            &format!("{part}-images-idx3-ubyte"),
            &[count, 28, 28],
            &labels.iter().flat_map(|&l| image(l)).collect::<Vec<_>>(),
        );
        write(&format!("{part}-labels-idx1-ubyte"), &[count], &labels);
    }
    for (class, name) in (0u8..).zip(["dark", "light", "mixed"]) {
        std::fs::create_dir_all(folder.path().join("shades").join(name)).unwrap();
        for index in 0..50u8 {
            let pixel = |x: u32| if class == 2 && x < 10 { 20 } else { 20 + class * 90 + index };
            let picture = RgbImage::from_fn(20, 24, |x, _| Rgb([pixel(x), pixel(x), pixel(x) / 2]));
            picture.save(folder.path().join(format!("shades/{name}/{index}.png"))).unwrap();
        }
    }
    folder
}

#[test]
fn inspect_tells_all_of_a_set_in_one_object() {
    let folder = folders();
    let found = json(folder.path(), &["dataset", "inspect", "idx:digits"]);
    let field = |name: &str| found[name].clone();
    assert_eq!((field("dataset"), field("kind")), ("idx:digits".into(), "idx".into()));
    assert_eq!((field("channels"), field("height"), field("width")), (1.into(), 28.into(), 28.into()));
    assert_eq!((&found["train"]["images"], &found["train"]["bytes"]), (&300.into(), &(19 + 300 * 785).into()));
    assert_eq!((&found["test"]["images"], found["test"]["root"].as_str().map(str::len)), (&120.into(), Some(64)));
    assert_eq!(found["classes"].as_array().map(Vec::len), Some(10));
    assert_eq!(found["classes"][3], serde_json::json!({ "label": 3, "name": "3", "train": 30, "test": 12 }));
    assert_eq!(found["normalisation"].as_array().map(Vec::len), Some(1));
    assert!(found["normalisation"][0]["mean"].as_f64().is_some_and(|mean| (30.0..50.0).contains(&mean)));

    let found = json(folder.path(), &["dataset", "inspect", "images:shades@16x12"]);
    assert_eq!((&found["dataset"], &found["channels"]), (&"images:shades@16x12".into(), &3.into()));
    assert_eq!(found["classes"][2], serde_json::json!({ "label": 2, "name": "mixed", "train": 40, "test": 10 }));
    assert_eq!(found["normalisation"].as_array().map(Vec::len), Some(3));

    let text = String::from_utf8(podl(folder.path(), &["dataset", "inspect", "images:shades"]).stdout).unwrap();
    assert!(
        text.contains("images:shades@32x32: 3x32x32, 3 classes\n") && text.contains("40 train, 10 test  dark"),
        "{text}"
    );
    let found = json(folder.path(), &["dataset", "inspect", "builtin"]);
    assert_eq!((&found["kind"], &found["train"]["images"]), (&"builtin".into(), &10_000.into()));
}

#[test]
fn damaged_sets_are_one_line_with_path_and_reason() {
    let folder = folders();
    let error = |dataset: &str| {
        let output = podl(folder.path(), &["dataset", "inspect", dataset]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && line.lines().count() == 1, "{line}");
        line
    };
    std::fs::write(folder.path().join("shades/dark/7.png"), "no image").unwrap();
    assert!(error("images:shades").contains("shades/dark/7.png: it is no PNG or JPEG image"));
    std::fs::write(folder.path().join("digits/t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 9]).unwrap();
    assert!(error("idx:digits").contains("t10k-labels-idx1-ubyte: 9 labels, "));
    assert!(error("idx:nowhere").contains("cannot read nowhere"));
}

#[test]
fn the_program_trains_evaluates_and_searches_on_them() {
    let folder = folders();
    for (dataset, images) in [("idx:digits", 120), ("images:shades@20x24", 30)] {
        let common = ["--dataset", dataset, "--threads", "2"];
        let train = ["nas", "train", ARCH, "--epochs", "2", "--batch", "20", "--out", "a.podlmodel"];
        let trained = json(folder.path(), &[&train[..], &common[..]].concat());
        let scored = json(folder.path(), &[&["model", "eval", "a.podlmodel"][..], &common[..]].concat());
        assert_eq!(trained["images"], images);
        for name in ["correct", "images", "model_root"] {
            assert_eq!(scored[name], trained[name], "{dataset}: {name}");
        }
    }
    // A search trains in batches of 128, more than the second set has.
    let search = ["nas", "search", "--dataset", "idx:digits", "--space", "S6", "--layers", "2", "--episodes", "1"];
    let found = json(folder.path(), &[&search[..], &["--threads", "2", "--out", "searched"]].concat());
    assert_eq!(found["episode"], 0);
    let other = podl(folder.path(), &["model", "eval", "a.podlmodel", "--dataset", "idx:digits"]);
    let line = String::from_utf8(other.stderr).unwrap();
    assert!(line.contains("1 x 28 x 28 images of 10 classes, the model takes 3 x 20 x 24 images of 3"), "{line}");
}

fn recipe(rounds: u32) -> Recipe {
    Recipe {
        name: "own images".into(),
        space: Space::full(1),
        bounds: Bounds { lut: 100_000, throughput: 1000 },
        reward: Amount(10_000_000),
        bond: Amount(10_000_000),
        rounds,
        shard_images: None,
        validation_images: None,
        epochs: 5,
        min_gain: 1,
    }
}

/// A folder's images, published as a task, then won by a model trained on the task's own data.
fn publish_and_win(source: &str, rounds: u32, batch: usize) -> Vec<u32> {
    let spec = ChainSpec::load("dev").unwrap();
    let source = source.parse::<DatasetSpec>().unwrap().load().unwrap();
    let publication = prepare(&source, &recipe(rounds), &spec).unwrap();
    let work = &publication.task.workload;
    assert_eq!((work.input, work.classes), (source.train.shape, source.train.classes));
    let all = decode_dataset(&publication.data, work.input, work.classes, spec.caps.data_bytes).unwrap();
    let (train, validation) = split_data(&all, publication.task.train_images);
    assert_eq!((train.len() + validation.len(), validation.len()), (source.train.len(), source.train.len() / 10));

    let [act, weight] = [FixedPoint::new(2, 4), FixedPoint::new(2, 5)];
    let layers = vec![ConvLayer { kernel: [3, 3], filters: 8, stride: [2, 2], pool: 2, act, weight }];
    let network = Network::new(&Architecture { layers }, work.input, work.classes, work.space.dense).unwrap();
    let config = TrainConfig { epochs: 6, batch, learning_rate: 0.02, ..TrainConfig::default() };
    let job =
        TrainJob { network: &network, input_table: &work.input_table, data: &train, config: &config, seed: [3; 32] };
    let pool = Arc::new(ThreadPool::new(2).unwrap());
    let artefact = train_child(&job, &pool, &Arc::default(), &mut |_| ()).unwrap().model.encode();

    let verifier = Verifier::new(2);
    let shards = publication.task.shards.iter().zip(&publication.sealed).zip(&publication.keys);
    let mut scores = Vec::new();
    for ((shard, sealed), key) in shards {
        let plain = open_checked(shard, key, sealed).unwrap();
        assert_eq!(verifier.parse_shard(work, &spec.caps, &plain), Ok(work.shard_images));
        scores.push(verifier.score(work, &spec.caps, &artefact, &plain).unwrap());
    }
    scores
}

#[test]
fn idx_files_become_a_task_that_can_be_won() {
    let folder = folders();
    let scores = publish_and_win(&format!("idx:{}/digits", folder.path().display()), 3, 20);
    assert!(scores.len() == 3 && scores.iter().all(|&score| score > 10), "{scores:?} of 40 images each, 10 classes");
}

#[test]
fn a_folder_of_images_becomes_a_task_that_can_be_won() {
    let folder = folders();
    let scores = publish_and_win(&format!("images:{}/shades@12x10", folder.path().display()), 2, 12);
    assert!(scores.len() == 2 && scores.iter().all(|&score| score > 7), "{scores:?} of 15 images each, 3 classes");
}

/// The largest images that a chain takes: the number of images of a shard follows from what a shard may hold.
#[test]
fn shards_of_large_images_stay_within_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        (0..10u8).for_each(|i| {
            GrayImage::from_pixel(64, 64, Luma([i])).save(folder.path().join(format!("{name}/{i}.png"))).unwrap();
        });
    }
    let mut source =
        format!("images:{}@64x64x3", folder.path().display()).parse::<DatasetSpec>().unwrap().load().unwrap();
    source.test = source.test.select((0..4000).map(|index| index % 4));
    let spec = ChainSpec::load("dev").unwrap();
    let publication = prepare(&source, &recipe(1), &spec).unwrap();
    assert_eq!(publication.task.workload.shard_images, (33_554_432 - 19) / 12_289);
    assert!(publication.sealed[0].len() <= spec.caps.shard_bytes as usize);
}
