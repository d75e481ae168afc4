//! `podl nas study`: how soon each strategy finds good networks, over recorded evaluations instead of training.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use podl_consensus::workload::Bounds;
use podl_nas::search::{SearchBox, StrategyKind, starting_points};
use podl_nas::tabular::{
    BUDGETS, Curve, Folds, Quality, Record, Setup, Surrogate, cross_validate, read_records, recorded_space, study,
};
use serde_json::json;

use super::super::output::{Out, grouped};

/// Folds of shuffled records, where whole runs are not what is held out.
const SHUFFLED_FOLDS: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    /// Recorded evaluations, a CSV file.
    #[arg(long, value_name = "FILE")]
    records: PathBuf,
    /// One strategy only.
    #[arg(long)]
    strategy: Option<StrategyKind>,
    /// Searches for each figure.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Seed of the surrogate.
    #[arg(long, default_value_t = 0)]
    surrogate_seed: u64,
    /// Most LUTs of a network's FPGA mapping.
    #[arg(long, default_value_t = 100_000)]
    lut: u64,
    /// A network's mapping must be faster than this, in images a second.
    #[arg(long, default_value_t = 1000)]
    throughput: u64,
    /// Let every search try the starting points first, as `podl nas search` does.
    #[arg(long)]
    starts: bool,
    /// Leave out the cross-validation of the surrogate.
    #[arg(long)]
    no_validation: bool,
}

pub(crate) fn run(args: &StudyArgs, out: &Out) -> anyhow::Result<()> {
    let records = read_records(&args.records)?;
    if !args.no_validation {
        for (name, folds) in [("whole runs", Folds::ByRun), ("shuffled records", Folds::Shuffled(SHUFFLED_FOLDS))] {
            validation(name, &cross_validate(&records, folds, args.surrogate_seed)?, out)?;
        }
    }
    let all: Vec<&Record> = records.iter().collect();
    let surrogate = Surrogate::fit(&all, args.surrogate_seed)?;
    let kinds = args.strategy.map_or(StrategyKind::ALL.to_vec(), |kind| vec![kind]);
    for strides in [true, false] {
        let setup = setup(args, &records, strides)?;
        for &kind in &kinds {
            curve(kind, strides, &study(kind, &setup, &surrogate)?, out)?;
        }
    }
    Ok(())
}

/// The space that the records span, with strides or without.
fn setup(args: &StudyArgs, records: &[Record], strides: bool) -> anyhow::Result<Setup> {
    let mut space = recorded_space(records.iter()).context("there are no records")?;
    if !strides {
        (space.stride_height, space.stride_width) = (vec![1], vec![1]);
    }
    let search_box = SearchBox::from_space(&space)?;
    let points = if args.starts { starting_points(&search_box) } else { Vec::new() };
    let bounds = Bounds { lut: args.lut, throughput: args.throughput };
    let starts = points.into_iter().map(|point| point.architecture).collect();
    Ok(Setup { search_box, bounds, starts, seeds: args.seeds })
}

fn validation(held_out: &str, quality: &Quality, out: &Out) -> anyhow::Result<()> {
    let line = json!({
        "held_out": held_out,
        "rank_correlation": quality.rank_correlation,
        "mean_fold_rank_correlation": quality.mean_fold_rank_correlation,
        "mean_absolute_error": quality.mean_absolute_error,
        "records": quality.records,
        "folds": quality.folds,
    });
    out.record(&line, || {
        format!(
            "surrogate on {} records, {held_out} held out in {} folds: rank correlation {:.3} ({:.3} within a fold), \
             mean absolute error {:.3}",
            grouped(quality.records as u64),
            quality.folds,
            quality.rank_correlation,
            quality.mean_fold_rank_correlation,
            quality.mean_absolute_error
        )
    })
}

fn curve(kind: StrategyKind, strides: bool, curve: &Curve, out: &Out) -> anyhow::Result<()> {
    let line = json!({
        "strides": strides,
        "strategy": kind.name(),
        "evaluations": BUDGETS,
        "best_accuracy": curve.mean,
        "standard_error": curve.standard_error,
        "exhausted": curve.exhausted,
    });
    out.record(&line, || {
        let points = BUDGETS.iter().zip(curve.mean.iter().zip(curve.standard_error));
        let points: Vec<String> =
            points.map(|(budget, (mean, error))| format!("{budget}: {mean:.3} +- {error:.3}")).collect();
        let space = if strides { "strides" } else { "no strides" };
        let exhausted = match curve.exhausted {
            0 => String::new(),
            some => format!("   ({some} found nothing new before the end)"),
        };
        format!("{space:10}  {:10}  {}{exhausted}", kind.name(), points.join("   "))
    })
}
