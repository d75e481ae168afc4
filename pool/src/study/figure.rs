//! What a study shows as figures; drawing them is the command line's business.

use serde::Serialize;

use super::measure::Measure;

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its file's name, without an ending.
    pub name: &'static str,
    /// Stands above it.
    pub title: String,
    /// What is measured upward, with its unit.
    pub y: &'static str,
    /// What it shows.
    pub shape: Shape,
}

/// What a figure shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Means over the seeds along an axis.
    Curves {
        /// What the horizontal axis counts.
        x: &'static str,
        /// The first at the back.
        curves: Vec<Curve>,
    },
    /// Figures with their intervals, side by side.
    Bars(Vec<Bar>),
}

/// A line of a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Its entry in the legend.
    pub label: String,
    /// In order of x.
    pub points: Vec<[f64; 2]>,
}

/// A bar of a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// Stands below it.
    pub label: String,
    /// Its height.
    pub value: f64,
    /// Ends of its 95 % interval.
    pub interval: [f64; 2],
}

/// What a scenario found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    /// In figures.
    pub measures: Vec<Measure>,
    /// To look at.
    pub figures: Vec<Figure>,
}

impl Figure {
    /// Bars, side by side.
    pub fn bars(name: &'static str, title: &str, y: &'static str, bars: Vec<Bar>) -> Self {
        Self { name, title: title.into(), y, shape: Shape::Bars(bars) }
    }
}

impl Findings {
    /// Measures, and the same as bars with these labels, in their order.
    pub fn with_bars<const N: usize>(
        measures: Vec<Measure>,
        name: &'static str,
        title: &str,
        y: &'static str,
        labels: [&str; N],
    ) -> Self {
        let bars = measures.iter().zip(labels).map(|(measure, label)| Bar::of(measure, label)).collect();
        Self { measures, figures: vec![Figure::bars(name, title, y, bars)] }
    }
}

impl Bar {
    /// A measure as a bar.
    pub fn of(measure: &Measure, label: impl Into<String>) -> Self {
        Self { label: label.into(), value: measure.value, interval: [measure.low, measure.high] }
    }
}
