//! `podl nas plot`: figures of a search, while it runs or afterwards.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use podl_nas::cost::{CostModel, Explanation};
use podl_nas::search::{HistoryEpisode, MOST_REWARD, history};
use serde::Serialize;

use super::super::output::{Out, grouped};
use super::front::front;
use super::search::{JOURNAL, SETTINGS, Settings};
use super::write_replacing;
use crate::plot::{Axis, Chart, Colour, Marks, Series, Ticks, steps};

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// Folder of the search: what `podl nas search` got as --out.
    #[arg(value_name = "DIR")]
    search: PathBuf,
    /// Where the figures go [default: the search's folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A network on the Pareto front.
#[derive(Debug, Serialize)]
struct FrontPoint {
    episode: u64,
    lut: u64,
    accuracy: f64,
}

/// What was drawn. The names are a stable interface.
#[derive(Debug, Serialize)]
struct Drawn {
    files: Vec<PathBuf>,
    episodes: usize,
    best_reward: f64,
    front: Vec<FrontPoint>,
}

pub(crate) fn run(args: &PlotArgs, out: &Out) -> anyhow::Result<()> {
    let episodes = read_episodes(&args.search)?;
    let settings = Settings::read(&args.search)?;
    let luts = luts(&episodes, &settings)?;
    let points: Vec<(u64, u32)> = luts.iter().zip(&episodes).map(|(&lut, episode)| (lut, episode.reward)).collect();
    let on_front = front(&points);
    let folder = args.out.as_ref().unwrap_or(&args.search);
    std::fs::create_dir_all(folder).with_context(|| format!("the folder {}", folder.display()))?;
    let mut files = Vec::new();
    for (name, chart) in
        [("reward", reward_chart(&episodes, &settings)), ("front", front_chart(&points, &on_front, &settings))]
    {
        for (ending, bytes) in [("svg", chart.svg()?.into_bytes()), ("png", chart.png()?)] {
            let file = folder.join(format!("{name}.{ending}"));
            write_replacing(&file, &bytes)?;
            files.push(file);
        }
    }
    let point = |index: usize| {
        let (lut, reward) = points[index];
        FrontPoint { episode: episodes[index].episode, lut, accuracy: fraction(reward) }
    };
    let best_reward = fraction(episodes.iter().map(|episode| episode.reward).max().unwrap_or(0));
    let front = on_front.into_iter().map(point).collect();
    let drawn = Drawn { files, episodes: episodes.len(), best_reward, front };
    out.record(&drawn, || text(&drawn))
}

fn read_episodes(folder: &Path) -> anyhow::Result<Vec<HistoryEpisode>> {
    let journal = folder.join(JOURNAL);
    if !journal.is_file() {
        bail!("{0} holds no search: there is no {1}; `podl nas search --out {0}` makes one", folder.display(), JOURNAL);
    }
    let episodes = history(&journal)?;
    if episodes.is_empty() {
        bail!("the search in {} has not finished an episode yet: there is nothing to draw", folder.display());
    }
    Ok(episodes)
}

/// The fewest LUTs found with which every network meets the search's throughput bound. The design that a search is
/// judged by is the fastest within the LUT bound, so it takes most of that whatever the network.
fn luts(episodes: &[HistoryEpisode], settings: &Settings) -> anyhow::Result<Vec<u64>> {
    let lut = |episode: &HistoryEpisode| {
        let model = CostModel::Corrected;
        let found = Explanation::of_mapping(model, &episode.architecture, settings.input, settings.bounds)?;
        // The search trains nothing else.
        let misfit = || format!("episode {} does not fit the bounds of {}", episode.episode, SETTINGS);
        found.lut_needed.filter(|_| found.answer.feasible).with_context(misfit)
    };
    episodes.iter().map(lut).collect()
}

fn fraction(reward: u32) -> f64 {
    f64::from(reward) / f64::from(MOST_REWARD)
}

/// Best and current reward against episode: figure 1 of the paper.
fn reward_chart(episodes: &[HistoryEpisode], settings: &Settings) -> Chart {
    // Episodes are far fewer than 2^53.
    let current: Vec<[f64; 2]> = episodes.iter().map(|e| [e.episode as f64, fraction(e.reward)]).collect();
    let mut most = 0.0f64;
    let best: Vec<[f64; 2]> = current
        .iter()
        .map(|&[episode, reward]| {
            most = most.max(reward);
            [episode, most]
        })
        .collect();
    let series = |label: &str, colour, marks| Series { label: label.into(), colour, marks };
    Chart {
        title: title("Reward of each network", settings, episodes.len()),
        x: Axis { title: "episode".into(), ticks: Ticks::Counts },
        y: Axis { title: "reward (accuracy on held-back images)".into(), ticks: Ticks::Fractions },
        series: vec![
            series("", Colour::Vermilion, Marks::ThinLine(current.clone())),
            series("current reward", Colour::Vermilion, Marks::Points(current)),
            series("best reward", Colour::Blue, Marks::Line(steps(&best))),
        ],
    }
}

/// All networks and the Pareto front of accuracy against LUTs.
fn front_chart(points: &[(u64, u32)], on_front: &[usize], settings: &Settings) -> Chart {
    // LUTs are bounded far below 2^53.
    let place = |index: usize| [points[index].0 as f64, fraction(points[index].1)];
    let front: Vec<[f64; 2]> = on_front.iter().map(|&index| place(index)).collect();
    let rest = (0..points.len()).filter(|index| !on_front.contains(index)).map(place).collect();
    let series = |label: &str, colour, marks| Series { label: label.into(), colour, marks };
    let bounds = settings.bounds;
    Chart {
        title: title("Accuracy and size", settings, points.len()),
        x: Axis {
            title: format!(
                "LUTs needed for more than {} images/s (at most {})",
                grouped(bounds.throughput),
                grouped(bounds.lut)
            ),
            ticks: Ticks::Counts,
        },
        y: Axis { title: "accuracy on held-back images".into(), ticks: Ticks::Fractions },
        series: vec![
            series("dominated networks", Colour::Grey, Marks::Points(rest)),
            series("Pareto front", Colour::Blue, Marks::Line(steps(&front))),
            series("", Colour::Blue, Marks::Points(front)),
        ],
    }
}

fn title(what: &str, settings: &Settings, networks: usize) -> String {
    let kind = settings.dataset.split(':').next().unwrap_or_default();
    let plural = if networks == 1 { "network" } else { "networks" };
    format!("{what}: {} on {kind}, {} {plural}", settings.strategy.name(), grouped(networks as u64))
}

fn text(drawn: &Drawn) -> String {
    let files: Vec<String> = drawn.files.iter().map(|file| file.display().to_string()).collect();
    format!(
        "{} episodes, best reward {:.4}, {} networks on the front\n{}",
        grouped(drawn.episodes as u64),
        drawn.best_reward,
        drawn.front.len(),
        files.join("\n")
    )
}
