//! `podl pool study`: measurements of the pool, its real machines on virtual time over recorded trainings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use podl_nas::tabular::read_records;
use podl_pool::sim::{Landscape, MadeUp, Recorded};
use podl_pool::study::{Measure, Scenario};

use super::output::Out;

/// Where recorded trainings are looked for unless a file is named.
const RECORDS: &str = "fpga-nas/episodes.csv";

#[derive(Debug, Args)]
pub(super) struct StudyArgs {
    /// speedup, baselines, churn, strategy, variance, neutrality, cheats, manager-kill, scale, paper, or all.
    #[arg(long, default_value = "all", value_name = "NAME")]
    scenario: String,
    /// Runs of each measurement.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=1000))]
    seeds: u64,
    /// Recorded trainings, a CSV file; what networks reach is predicted from them. `made-up` needs none.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
}

pub(super) fn run(args: &StudyArgs, out: &Out) -> anyhow::Result<()> {
    let scenarios = match args.scenario.as_str() {
        "all" => Scenario::ALL.to_vec(),
        name => vec![name.parse::<Scenario>().map_err(anyhow::Error::msg)?],
    };
    let landscape = landscape(args.records.as_deref())?;
    let mut missed = 0;
    for scenario in scenarios {
        tracing::info!(scenario = scenario.name(), seeds = args.seeds, "measuring");
        for measure in scenario.run(&landscape, args.seeds) {
            missed += u32::from(measure.met == Some(false));
            out.record(&measure, || text(&measure))?;
        }
    }
    if missed > 0 {
        tracing::warn!(missed, "goals are not met");
    }
    Ok(())
}

/// What networks reach: predicted from recorded trainings, or made up.
fn landscape(records: Option<&Path>) -> anyhow::Result<Arc<dyn Landscape>> {
    let path = match records {
        Some(path) if path == Path::new("made-up") => {
            tracing::warn!(
                "what networks reach is made up: figures compare schemes, they say nothing of real training"
            );
            return Ok(Arc::new(MadeUp));
        }
        Some(path) => path.to_owned(),
        None => found_records()?,
    };
    let records = read_records(&path)?;
    Ok(Arc::new(Recorded::fit(&records, 0).with_context(|| format!("cannot learn from {}", path.display()))?))
}

fn found_records() -> anyhow::Result<PathBuf> {
    let folders = [std::env::var_os("PODL_DATA").map(PathBuf::from), Some(PathBuf::from("../shared/data"))];
    let Some(path) = folders.into_iter().flatten().map(|folder| folder.join(RECORDS)).find(|path| path.is_file())
    else {
        bail!(
            "no recorded trainings: name a file with --records (podl nas study reads the same), or --records made-up"
        );
    };
    Ok(path)
}

fn text(measure: &Measure) -> String {
    let verdict = match (measure.goal, measure.met) {
        (Some(goal), Some(true)) => format!("met (goal {goal})"),
        (Some(goal), Some(false)) => format!("NOT MET (goal {goal})"),
        _ => String::new(),
    };
    format!(
        "{:<13} {:>10.4}  [{:.4}, {:.4}]  {:<20} {}",
        measure.scenario, measure.value, measure.low, measure.high, verdict, measure.measure
    )
}
