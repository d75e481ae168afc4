//! Data sets of other shapes and numbers of classes than CIFAR-10's: from files to a trained and scored model.

use std::path::Path;
use std::sync::Arc;

use image::{Rgb, RgbImage};
use podl_chain_spec::ChainSpec;
use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network};
use podl_nas::artefact::{Model, decode};
use podl_nas::data::{DatasetSpec, Source, decode_dataset, encode_dataset, input_table};
use podl_nas::engine::Engine;
use podl_nas::train::{ThreadPool, TrainConfig, Trainer};

/// Writes an IDX file of bytes.
fn write_idx(folder: &Path, name: &str, sizes: &[u32], elements: &[u8]) {
    let sizes_bytes = sizes.iter().flat_map(|size| size.to_be_bytes());
    let header = [0, 0, 8, sizes.len() as u8].into_iter().chain(sizes_bytes);
    std::fs::write(folder.join(name), header.chain(elements.iter().copied()).collect::<Vec<u8>>()).unwrap();
}

/// Grey images of 28x28 pixels and 10 classes: a bright bar whose height is the class's.
fn idx_folder(folder: &Path) {
    for (part, count) in [("train", 640u32), ("t10k", 200)] {
        let labels: Vec<u8> = (0..count).map(|index| (index * 7 % 10) as u8).collect();
        let pixel = |index: usize, row: usize, column: usize| {
            let is_bar = row / 2 == 2 + usize::from(labels[index]);
            (if is_bar { 200 } else { 30 }) + ((index * 31 + row * 17 + column * 13) % 40) as u8
        };
        let image = |index| (0..784).map(move |at| (index, at / 28, at % 28));
        let pixels: Vec<u8> = (0..labels.len()).flat_map(image).map(|(i, row, column)| pixel(i, row, column)).collect();
        write_idx(folder, &format!("{part}-images-idx3-ubyte"), &[count, 28, 28], &pixels);
        write_idx(folder, &format!("{part}-labels-idx1-ubyte"), &[count], &labels);
    }
}

/// Coloured PNG files of many sizes and 3 classes: the colour of a square.
fn image_folder(folder: &Path) {
    for (class, name) in ["cyan", "magenta", "yellow"].into_iter().enumerate() {
        std::fs::create_dir(folder.join(name)).unwrap();
        for index in 0..60u32 {
            let (width, height) = (20 + index % 30, 30 + index % 11);
            let picture = RgbImage::from_fn(width, height, |x, y| {
                let noise = ((x * 7 + y * 13 + index * 5) % 50) as u8;
                let is_square = x > width / 4 && y > height / 4 && x < width * 3 / 4 && y < height * 3 / 4;
                let mut pixel = [100 + noise; 3];
                if is_square {
                    pixel[class] = noise;
                }
                Rgb(pixel)
            });
            picture.save(folder.join(format!("{name}/{index}.png"))).unwrap();
        }
    }
}

fn network(source: &Source) -> Network {
    let layer = |filters, stride| ConvLayer {
        kernel: [3, 3],
        filters,
        stride: [stride; 2],
        pool: 2,
        act: FixedPoint::new(2, 4),
        weight: FixedPoint::new(2, 5),
    };
    let dense = DenseConfig { width: 32, ..DenseConfig::default() };
    let architecture = Architecture { layers: vec![layer(8, 1), layer(12, 2)] };
    Network::new(&architecture, source.train.shape, source.train.classes, dense).unwrap()
}

/// Trains some epochs, writes and reads the artefact, and scores it in integers.
fn train_and_score(source: &Source, epochs: u32) -> (Model, u32) {
    let (network, table) = (network(source), input_table(&source.train));
    let config = TrainConfig { epochs, batch: 16, learning_rate: 0.03, ..TrainConfig::default() };
    let pool = Arc::new(ThreadPool::new(2).unwrap());
    let mut trainer = Trainer::new(network, &table, config, [1; 32], pool).unwrap();
    let losses: Vec<f32> = (0..epochs).map(|_| trainer.run_epoch(&source.train, &mut |_| ()).unwrap().loss).collect();
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    let bytes = trainer.quantised_model().unwrap().encode();
    let caps = ChainSpec::load("testnet").unwrap().caps;
    let model = decode(&bytes, &caps).unwrap();
    let engine = Engine::new(&model, &table).unwrap();
    assert_eq!(engine.classify(&source.test.images, 2).unwrap(), trainer.classify(&source.test).unwrap());
    let correct = engine.count_correct(&source.test, 2).unwrap();
    (model, correct)
}

/// The canonical bytes of both parts read back.
fn assert_canonical(source: &Source) {
    for part in [&source.train, &source.test] {
        let bytes = encode_dataset(part);
        assert_eq!(&decode_dataset(&bytes, part.shape, part.classes, bytes.len() as u64).unwrap(), part);
    }
}

#[test]
fn small_grey_images_train_and_score() {
    let folder = tempfile::tempdir().unwrap();
    idx_folder(folder.path());
    let source = format!("idx:{}", folder.path().display()).parse::<DatasetSpec>().unwrap().load().unwrap();
    assert_eq!(source.train.shape, InputShape { channels: 1, height: 28, width: 28 });
    assert_eq!((source.train.len(), source.test.len(), source.train.classes), (640, 200, 10));
    assert_canonical(&source);
    let (model, correct) = train_and_score(&source, 4);
    assert_eq!(model.network().input, source.train.shape);
    assert!(correct > 100, "{correct} of 200 images of 10 classes");
}

#[test]
fn folders_of_images_train_and_score() {
    let folder = tempfile::tempdir().unwrap();
    image_folder(folder.path());
    let source = format!("images:{}@24x20", folder.path().display()).parse::<DatasetSpec>().unwrap().load().unwrap();
    assert_eq!(source.train.shape, InputShape { channels: 3, height: 24, width: 20 });
    assert_eq!((source.train.len(), source.test.len(), source.train.classes), (144, 36, 3));
    assert_eq!(source.class_names, ["cyan", "magenta", "yellow"]);
    assert_canonical(&source);
    let (model, correct) = train_and_score(&source, 6);
    assert_eq!(model.network().classes, 3);
    assert!(correct > 24, "{correct} of 36 images of 3 classes");
}
