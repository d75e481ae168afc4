//! Where ticks stand and what stands at them.

use std::ops::{Range, RangeInclusive};

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::Ticks;
use crate::numbers::grouped;

/// Ticks that are aimed at.
const AIM: f64 = 6.0;

/// A range of an axis with its ticks, and the coordinate along it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    /// Ends of the axis.
    pub range: [f64; 2],
    /// Positions of the ticks, ascending.
    pub at: Vec<f64>,
    decimals: usize,
    ticks: Ticks,
}

impl Scale {
    /// The scale for data between two numbers.
    pub fn new(ticks: &Ticks, data: RangeInclusive<f64>) -> Self {
        let (low, high) = (*data.start(), *data.end());
        if let Ticks::Names(names) = ticks {
            let at: Vec<f64> = (0..names.len()).map(|index| index as f64).collect();
            return Self {
                range: [low.min(-0.5), high.max(names.len() as f64 - 0.5)],
                at,
                decimals: 0,
                ticks: ticks.clone(),
            };
        }
        // All data at one place still needs an axis around it.
        let span = if high > low { high - low } else { high.abs().max(1.0) };
        let mut step = round_step(span / AIM);
        if *ticks == Ticks::Counts {
            step = step.max(1.0);
        }
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil().max(first + 1.0);
        // At most a dozen.
        let at: Vec<f64> = (0..=(last - first) as u32).map(|n| (first + f64::from(n)) * step).collect();
        // A step of .02 needs two digits, one of .5 one, one of 20 none.
        let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
        Self { range: [first * step, last * step], at, decimals, ticks: ticks.clone() }
    }

    /// The label at a tick.
    pub fn label(&self, value: f64) -> String {
        match &self.ticks {
            Ticks::Fractions => format!("{value:.*}", self.decimals),
            Ticks::Counts => {
                let sign = if value < -0.5 { "-" } else { "" };
                format!("{sign}{}", grouped(value.abs().round() as u64))
            }
            Ticks::Names(names) => {
                // Positions of names are whole numbers from 0.
                names.get(value.round().max(0.0) as usize).cloned().unwrap_or_default()
            }
        }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let [low, high] = self.range;
        // Pixels; a range is never empty.
        (f64::from(from) + f64::from(to - from) * (value - low) / (high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No grid lines between ticks.
        if hint.weight().allow_light_points() { Vec::new() } else { self.at.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range[0]..self.range[1]
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

/// 1, 2 or 5 times a power of ten, the least one that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &Ticks, data: RangeInclusive<f64>) -> Vec<String> {
        let scale = Scale::new(ticks, data);
        scale.at.iter().map(|&at| scale.label(at)).collect()
    }

    #[test]
    fn ticks_are_round_and_span_the_data() {
        assert_eq!(labels(&Ticks::Counts, 812.0..=97_000.0), ["0", "20,000", "40,000", "60,000", "80,000", "100,000"]);
        assert_eq!(labels(&Ticks::Fractions, 0.1..=0.47), ["0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(labels(&Ticks::Fractions, 0.61..=0.7), ["0.60", "0.62", "0.64", "0.66", "0.68", "0.70"]);
        assert_eq!(labels(&Ticks::Counts, 0.0..=2.0), ["0", "1", "2"], "no half episodes");
        assert_eq!(labels(&Ticks::Counts, 0.0..=0.0), ["0", "1"], "one point only");
        assert_eq!(labels(&Ticks::Counts, -40.0..=30.0), ["-40", "-20", "0", "20", "40"]);
        let names = Ticks::Names(vec!["a".into(), "b".into()]);
        assert_eq!(labels(&names, -0.5..=1.5), ["a", "b"]);
    }

    #[test]
    fn every_range_has_few_ticks_that_enclose_it() {
        for exponent in -6..7 {
            for (low, span) in [(0.0, 1.0), (-3.7, 9.1), (0.999, 1.7), (123.4, 0.02), (5.0, 0.0)] {
                let (low, span) = (low * 10f64.powi(exponent), span * 10f64.powi(exponent));
                for ticks in [Ticks::Counts, Ticks::Fractions] {
                    let scale = Scale::new(&ticks, low..=low + span);
                    assert!((2..=12).contains(&scale.at.len()), "{low} {span} {scale:?}");
                    let slack = 1e-6 * (span + low.abs());
                    assert!(scale.range[0] <= low + slack && scale.range[1] >= low + span - slack, "{scale:?}");
                }
            }
        }
    }
}
