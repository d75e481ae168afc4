//! Records, the surrogate and its quality, on made-up records and (where they are) on the logged ones.

use std::path::PathBuf;

use podl_consensus::workload::{Architecture, Bounds, Space};

use super::*;
use crate::data::Random;
use crate::search::SearchBox;

/// A made-up accuracy: better with more bits and larger kernels.
fn accuracy(network: &Architecture) -> f64 {
    let score: u32 = network.layers.iter().map(|l| l.weight.total_bits() + u32::from(l.kernel[0])).sum();
    f64::from(score.min(150)) / 150.0
}

fn records(count: usize) -> Vec<Record> {
    let search_box = SearchBox::from_space(&Space::full(6)).unwrap();
    let mut random = Random::new("tabular test", &[4; 32], 0);
    let record = |index: usize| {
        let architecture = search_box.sample(&mut random);
        let accuracy = accuracy(&architecture);
        let bounds = Bounds { lut: 1, throughput: 1 };
        Record {
            run: format!("run {}", index % 4),
            architecture,
            bounds,
            accuracy,
            is_feasible: !index.is_multiple_of(10),
        }
    };
    (0..count).map(record).collect()
}

#[test]
fn a_surrogate_follows_from_records_and_seed() {
    let records = records(300);
    let all: Vec<&Record> = records.iter().collect();
    let networks: Vec<&Architecture> = records[..50].iter().map(|r| &r.architecture).collect();
    let predict = |seed| Surrogate::fit(&all, seed).unwrap().accuracies(&networks).unwrap();
    let first: Vec<u64> = predict(1).iter().map(|a| a.to_bits()).collect();
    assert_eq!(first, predict(1).iter().map(|a| a.to_bits()).collect::<Vec<_>>());
    assert_ne!(first, predict(2).iter().map(|a| a.to_bits()).collect::<Vec<_>>());
    let quality = cross_validate(&records, Folds::Shuffled(3), 1).unwrap();
    assert_eq!((quality.records, quality.folds), (270, 3));
    assert!(quality.rank_correlation > 0.5 && quality.mean_absolute_error < 0.1, "{quality:?}");
    assert_eq!(quality, cross_validate(&records, Folds::Shuffled(3), 1).unwrap());
    assert_eq!(cross_validate(&records, Folds::ByRun, 1).unwrap().folds, 4);
}

#[test]
fn what_a_surrogate_cannot_judge_is_refused() {
    let records = records(30);
    let all: Vec<&Record> = records.iter().collect();
    assert!(matches!(Surrogate::fit(&all[..4], 0), Err(SurrogateError::TooFew { got: 3, expected: 6 })));
    let surrogate = Surrogate::fit(&all, 0).unwrap();
    let shallow = Architecture { layers: records[0].architecture.layers[..5].to_vec() };
    assert!(matches!(surrogate.reward(&shallow), Err(SurrogateError::Depth { got: 5, expected: 6 })));
}

#[test]
fn rank_correlation_knows_order_and_ties() {
    let close = |pairs: &[(f64, f64)], expected: f64| (rank_correlation(pairs) - expected).abs() < 1e-12;
    assert!(close(&[(1.0, 10.0), (2.0, 20.0), (3.0, 4000.0)], 1.0));
    assert!(close(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], -1.0));
    // Ranks 0.5 0.5 2 3 against 0 1 2 3: 4.5 / sqrt(4.5 * 5).
    assert!(close(&[(1.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)], 4.5 / 22.5f64.sqrt()));
    assert!(close(&[(1.0, 1.0), (1.0, 2.0)], 0.0) && close(&[], 0.0));
}

#[test]
fn lines_of_another_form_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    let mut fields = vec!["run", "1", "100000", "500"];
    let layer = ["3", "3", "24", "1", "1", "2", "1", "4", "1", "5"];
    (0..6).for_each(|_| fields.extend(layer));
    fields.extend(["0.5", "99000", "1500.5", "10.1", "0"]);
    let write = |lines: &[String]| std::fs::write(&path, format!("heading\n{}\n", lines.join("\n"))).unwrap();
    let good = fields.join(",");
    write(&[good.clone(), good.clone()]);
    let records = read_records(&path).unwrap();
    assert_eq!((records.len(), records[1].accuracy.to_bits(), records[1].is_feasible), (2, 0.5f64.to_bits(), true));
    let space = recorded_space(records.iter()).unwrap();
    assert_eq!((space.conv_layers, space.filters, space.pool, space.act_frac), (6, vec![24], vec![2], vec![4]));
    for (at, value, expected) in
        [(64, "1.5", "accuracy"), (4, "300", "below 256"), (2, "-1", "whole"), (6, "x", "filters")]
    {
        let mut bad = fields.clone();
        bad[at] = value;
        write(&[good.clone(), bad.join(",")]);
        let error = read_records(&path).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains(value) && error.contains(expected), "{error}");
    }
    write(&[fields[1..].join(",")]);
    assert!(read_records(&path).unwrap_err().to_string().contains("\"68\", expected 69 columns"));
    assert!(matches!(read_records(&folder.path().join("none")), Err(TableError::Io { .. })));
    assert!(recorded_space([].iter()).is_none());
}

/// Where this package is now: a build folder shared by several clones may hold a test that was compiled in another.
fn package_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).expect("cargo says where the package is")
}

/// The development data, which are never part of the repository.
fn logged() -> Option<Vec<Record>> {
    let folder = match std::env::var_os("PODL_DATA") {
        Some(folder) => folder.into(),
        None => package_folder().join("../../shared/data"),
    };
    let path = folder.join("fpga-nas/episodes.csv");
    if !path.exists() {
        eprintln!("SKIPPED: no {}; set PODL_DATA to the development data to fit the surrogate", path.display());
        return None;
    }
    Some(read_records(&path).unwrap())
}

#[test]
fn the_logged_runs_teach_what_an_unseen_run_is_like() {
    let Some(records) = logged() else { return };
    assert_eq!(records.len(), 8_768);
    // One run held out, as in the full cross-validation, which takes nine times as long.
    let (seen, unseen): (Vec<&Record>, Vec<&Record>) =
        records.iter().filter(|r| r.is_feasible).partition(|r| r.run != "without_100000_3000");
    let networks: Vec<&Architecture> = unseen.iter().map(|r| &r.architecture).collect();
    let surrogate = Surrogate::fit(&seen, 0).unwrap();
    let predicted = surrogate.accuracies(&networks).unwrap();
    let pairs: Vec<(f64, f64)> = unseen.iter().map(|r| r.accuracy).zip(predicted).collect();
    assert!(rank_correlation(&pairs) > 0.6, "{}", rank_correlation(&pairs));
}
