//! The `naqs` cost model against logged runs of the published program.

use std::path::PathBuf;

use podl_consensus::workload::{Architecture, Bounds, ConvLayer, FixedPoint, InputShape};
use podl_nas::cost::{self, CostModel};

/// Where this package is now: a build folder shared by several clones may hold a test that was compiled in another.
fn package_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).expect("cargo says where the package is")
}

/// The development data, which are never part of the repository.
fn data_folder() -> PathBuf {
    match std::env::var_os("PODL_DATA") {
        Some(folder) => folder.into(),
        None => package_folder().join("../../shared/data"),
    }
}

/// One logged network: bounds, what it cost and whether several mappings were equally fast.
struct Episode {
    architecture: Architecture,
    bounds: Bounds,
    lut: u64,
    throughput: f64,
    is_tied: bool,
}

fn parse(line: &str) -> Episode {
    let fields: Vec<&str> = line.split(',').collect();
    let size = |index: usize| fields[index].parse::<u64>().unwrap();
    let byte = |index: usize| fields[index].parse::<u8>().unwrap();
    let layers = (0..6).map(|layer| {
        let at = 4 + 10 * layer;
        ConvLayer {
            kernel: [byte(at), byte(at + 1)],
            filters: byte(at + 2).into(),
            stride: [byte(at + 3), byte(at + 4)],
            pool: byte(at + 5),
            act: FixedPoint::new(byte(at + 6), byte(at + 7)),
            weight: FixedPoint::new(byte(at + 8), byte(at + 9)),
        }
    });
    Episode {
        architecture: Architecture { layers: layers.collect() },
        bounds: Bounds { lut: size(2), throughput: size(3) },
        lut: size(65),
        throughput: fields[66].parse().unwrap(),
        is_tied: fields[68].trim() == "1",
    }
}

#[test]
fn naqs_reproduces_the_logged_episodes() {
    let path = data_folder().join("fpga-nas/episodes.csv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no {}; set PODL_DATA to the development data to check against the oracle", path.display());
        return;
    };
    let (mut rows, mut wrong_throughput, mut wrong_lut) = (0, Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().skip(1) {
        let episode = parse(line);
        rows += 1;
        let cost = cost::evaluate(CostModel::Naqs, &episode.architecture, InputShape::CIFAR, episode.bounds).unwrap();
        let (lut, throughput) = cost.map_or((0, 0.0), |cost| (cost.lut, cost.images_per_second()));
        if (throughput - episode.throughput).abs() > 1e-9 * episode.throughput {
            wrong_throughput.push(number + 1);
        }
        if lut != episode.lut {
            wrong_lut.push((number + 1, episode.is_tied));
        }
    }
    assert_eq!(rows, 8_768);
    assert!(wrong_throughput.is_empty(), "{} rows: {wrong_throughput:?}", wrong_throughput.len());
    assert!(wrong_lut.iter().all(|(_, is_tied)| *is_tied), "{} rows: {wrong_lut:?}", wrong_lut.len());
    assert!(wrong_lut.len() <= 3);
    eprintln!("{rows} rows, throughput of all, LUT of all but {} tied", wrong_lut.len());
}
