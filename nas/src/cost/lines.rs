//! The JSON Lines form of the cost model: one architecture a line in, one answer a line out.

use podl_consensus::workload::{Architecture, Bounds, ConvLayer, InputShape};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{CostModel, evaluate};

/// An architecture file, with bounds of its own if it likes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    layers: Vec<ConvLayer>,
    #[serde(default, deserialize_with = "whole_number")]
    lut_bound: Option<u64>,
    #[serde(default, deserialize_with = "whole_number")]
    throughput_bound: Option<u64>,
}

/// What the model says; zeros where no mapping is feasible, as in the published logs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Whether a mapping meets both bounds.
    pub feasible: bool,
    /// LUTs of the mapping.
    pub lut: u64,
    /// Clock cycles an image.
    pub cycles: u64,
    /// Images a second, to three decimals.
    pub throughput: f64,
}

/// Why a line has no answer; its own JSON form is the error object of the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: String,
}

/// A count that JSON may also write as 1e5 or 100000.0.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = number.as_f64().filter(|value| value.fract() == 0.0 && (0.0..9e15).contains(value));
    let parsed = number.as_u64().or(whole.map(|value| value as u64));
    parsed.map(Some).ok_or_else(|| D::Error::custom(format!("{number} is not a whole number of at least 0")))
}

/// Answers line `line` (from 1): an architecture file, which may carry its own `lut_bound` and `throughput_bound`
/// (otherwise `bounds`). Images are of 3 x 32 x 32.
///
/// # Errors
/// [`LineError`] when the line is not an architecture or the model cannot express it.
pub fn answer_line(model: CostModel, bounds: Bounds, line: usize, text: &str) -> Result<Answer, LineError> {
    let wrong = |error: String| LineError { line, error };
    let question: Question = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let bounds = Bounds {
        lut: question.lut_bound.unwrap_or(bounds.lut),
        throughput: question.throughput_bound.unwrap_or(bounds.throughput),
    };
    let architecture = Architecture { layers: question.layers };
    let cost = evaluate(model, &architecture, InputShape::CIFAR, bounds).map_err(|e| wrong(e.to_string()))?;
    Ok(match cost {
        None => Answer { feasible: false, lut: 0, cycles: 0, throughput: 0.0 },
        Some(cost) => Answer {
            feasible: true,
            lut: cost.lut,
            cycles: cost.cycles,
            throughput: (cost.images_per_second() * 1e3).round() / 1e3,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: &str = r#"{"kernel":[3,3],"filters":36,"stride":[1,1],"pool":2,"act":[1,4],"weight":[1,5]}"#;
    const BOUNDS: Bounds = Bounds { lut: 100_000, throughput: 1_000 };

    fn golden(more: &str) -> String {
        format!(r#"{{"layers":[{}]{more}}}"#, [LAYER; 6].join(","))
    }

    #[test]
    fn the_golden_line() {
        let answer = answer_line(CostModel::Naqs, BOUNDS, 1, &golden("")).unwrap();
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(json, r#"{"feasible":true,"lut":99576,"cycles":5832,"throughput":17146.776}"#);
    }

    #[test]
    fn a_lines_own_bounds_win() {
        let tight = answer_line(CostModel::Naqs, BOUNDS, 1, &golden(r#","throughput_bound":20000"#)).unwrap();
        let json = serde_json::to_string(&tight).unwrap();
        assert_eq!(json, r#"{"feasible":false,"lut":0,"cycles":0,"throughput":0.0}"#);
        let none = Bounds { lut: 1, throughput: 1 };
        assert!(!answer_line(CostModel::Naqs, none, 1, &golden("")).unwrap().feasible);
        let own = golden(r#","lut_bound":1e5,"throughput_bound":1000.0"#);
        assert_eq!(answer_line(CostModel::Naqs, none, 1, &own).unwrap().lut, 99_576);
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        let wrong = |text: &str| answer_line(CostModel::Corrected, BOUNDS, 7, text).unwrap_err().to_string();
        assert!(wrong("{").starts_with("line 7: EOF"));
        assert!(wrong(&golden(r#","colour":1"#)).contains("unknown field `colour`"));
        assert!(wrong(&golden(r#","lut_bound":1.5"#)).contains("1.5 is not a whole number"));
        assert!(wrong(&golden(r#","lut_bound":-1"#)).contains("-1 is not a whole number"));
        assert!(wrong(r#"{"layers":[]}"#).contains("no layers"));
        let error = answer_line(CostModel::Corrected, BOUNDS, 7, r#"{"layers":[]}"#).unwrap_err();
        assert_eq!(serde_json::to_string(&error).unwrap(), r#"{"line":7,"error":"the architecture has no layers"}"#);
    }
}
