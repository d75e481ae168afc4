//! `podl pool study`: measurements of the pool, its real machines on virtual time over recorded trainings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use podl_nas::tabular::read_records;
use podl_pool::sim::{Landscape, MadeUp, Recorded};
use podl_pool::study::{Curve, Figure, Measure, Scenario, Shape};
use serde::Serialize;

use super::nas::write_replacing;
use super::output::Out;
use crate::plot::{Axis, Bar, Chart, Colour, Marks, Series, Ticks};

/// Where recorded trainings are looked for unless a file is named.
const RECORDS: &str = "fpga-nas/episodes.csv";
/// Colours of lines, in their order.
const COLOURS: [Colour; 6] =
    [Colour::Blue, Colour::Vermilion, Colour::Green, Colour::Purple, Colour::Sky, Colour::Grey];

#[derive(Debug, Args)]
pub(super) struct StudyArgs {
    /// speedup, baselines, churn, strategy, partition, variance, neutrality, cheats, manager-kill, scale, paper, or all.
    #[arg(long, default_value = "all", value_name = "NAME")]
    scenario: String,
    /// Runs of each measurement.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=1000))]
    seeds: u64,
    /// Recorded trainings, a CSV file; what networks reach is predicted from them. `made-up` needs none.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Where figures go, as SVG and PNG with their data as JSON, and all measures as measures.json.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &StudyArgs, out: &Out) -> anyhow::Result<()> {
    let scenarios = match args.scenario.as_str() {
        "all" => Scenario::ALL.to_vec(),
        name => vec![name.parse::<Scenario>().map_err(anyhow::Error::msg)?],
    };
    let landscape = landscape(args.records.as_deref())?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).with_context(|| format!("the folder {}", folder.display()))?;
    }
    let mut measures = Vec::new();
    for scenario in scenarios {
        tracing::info!(scenario = scenario.name(), seeds = args.seeds, "measuring");
        let found = scenario.run(&landscape, args.seeds);
        found.measures.iter().try_for_each(|measure| out.record(measure, || text(measure)))?;
        measures.extend(found.measures);
        if let Some(folder) = &args.out {
            found.figures.iter().try_for_each(|figure| draw(figure, folder))?;
            // After every scenario: a study takes a while, and may be interrupted.
            write_json(&folder.join("measures.json"), &measures)?;
        }
    }
    let missed = measures.iter().filter(|measure| measure.met == Some(false)).count();
    if missed > 0 {
        tracing::warn!(missed, "goals are not met");
    }
    Ok(())
}

/// Writes a figure and its data.
fn draw(figure: &Figure, folder: &Path) -> anyhow::Result<()> {
    let chart = chart(figure);
    write_replacing(&folder.join(format!("{}.svg", figure.name)), chart.svg()?.as_bytes())?;
    write_replacing(&folder.join(format!("{}.png", figure.name)), &chart.png()?)?;
    write_json(&folder.join(format!("{}.json", figure.name)), figure)
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write_replacing(path, &serde_json::to_vec_pretty(value)?)
}

/// Means as lines, measures as bars with their intervals.
fn chart(figure: &Figure) -> Chart {
    let y = Axis { title: figure.y.into(), ticks: Ticks::Fractions };
    let (x, series) = match &figure.shape {
        Shape::Curves { x, curves } => {
            let line = |(index, curve): (usize, &Curve)| Series {
                label: curve.label.clone(),
                colour: COLOURS[index % COLOURS.len()],
                // Colours come round again; then lines are thin.
                marks: if index < COLOURS.len() {
                    Marks::Line(curve.points.clone())
                } else {
                    Marks::ThinLine(curve.points.clone())
                },
            };
            (Axis { title: (*x).into(), ticks: Ticks::Counts }, curves.iter().enumerate().map(line).collect())
        }
        Shape::Bars(bars) => {
            let bar = |(index, bar): (usize, &podl_pool::study::Bar)| Bar {
                x: index as f64,
                value: bar.value,
                interval: bar.interval,
            };
            let marks = Marks::Bars(bars.iter().enumerate().map(bar).collect());
            let names = bars.iter().map(|bar| bar.label.clone()).collect();
            (
                Axis { title: String::new(), ticks: Ticks::Names(names) },
                vec![Series { label: String::new(), colour: Colour::Blue, marks }],
            )
        }
    };
    Chart { title: figure.title.clone(), x, y, series }
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
            "no recorded trainings: name a file with --records FILE (make study RECORDS=FILE; podl nas study reads the \
             same), or do without with --records made-up (make study RECORDS=made-up)"
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
