//! The JSON Lines form of the cost model: one architecture a line in, one answer a line out.

use podl_consensus::workload::{Architecture, Bounds, ConvLayer, DenseConfig, InputShape, Network};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::finn::{Memory, Pipeline};
use super::{Cost, CostModel, Explanation, evaluate};

/// Classes of the network that a line stands for unless it says so, which decide on the last dense layer of
/// [`Estimator::Finn`].
const CLASSES: u16 = 10;

/// What answers lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// A model of tiles and groups; the dense layers are no part of it.
    Mapping(CostModel),
    /// The FINN tool chain's estimators, with the default dense layers.
    Finn,
}

/// An architecture file, with bounds and images of its own if it likes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    layers: Vec<ConvLayer>,
    #[serde(default, deserialize_with = "whole_number")]
    lut_bound: Option<u64>,
    #[serde(default, deserialize_with = "whole_number")]
    throughput_bound: Option<u64>,
    input: Option<InputShape>,
    classes: Option<u16>,
}

/// What a line asks about.
struct Subject {
    architecture: Architecture,
    bounds: Bounds,
    input: InputShape,
    classes: u16,
}

/// What the model says; zeros where no design is feasible, as in the published logs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Whether a design meets both bounds.
    pub feasible: bool,
    /// LUTs of the design.
    pub lut: u64,
    /// Clock cycles an image.
    pub cycles: u64,
    /// Images a second, to three decimals.
    pub throughput: f64,
}

impl Answer {
    pub(crate) fn new(cost: Option<Cost>) -> Self {
        match cost {
            None => Self { feasible: false, lut: 0, cycles: 0, throughput: 0.0 },
            Some(cost) => {
                Self { feasible: true, lut: cost.lut, cycles: cost.cycles, throughput: cost.rounded_throughput() }
            }
        }
    }
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

impl Question {
    fn parse(text: &str, bounds: Bounds) -> Result<Subject, String> {
        let question: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let bounds = Bounds {
            lut: question.lut_bound.unwrap_or(bounds.lut),
            throughput: question.throughput_bound.unwrap_or(bounds.throughput),
        };
        let (input, classes) = (question.input.unwrap_or(InputShape::CIFAR), question.classes.unwrap_or(CLASSES));
        if input.values() == 0 || classes == 0 {
            return Err("input and classes must be at least 1".into());
        }
        Ok(Subject { architecture: Architecture { layers: question.layers }, bounds, input, classes })
    }
}

impl Subject {
    fn pipeline(&self) -> Result<Pipeline, String> {
        let network = Network::new(&self.architecture, self.input, self.classes, DenseConfig::default());
        Pipeline::new(&network.map_err(|e| e.to_string())?, Memory::default()).map_err(|e| e.to_string())
    }
}

/// Answers line `line` (from 1): an architecture file, which may carry its own `lut_bound` and `throughput_bound`
/// (otherwise `bounds`), `input` (otherwise 3 x 32 x 32) and `classes` (otherwise 10).
///
/// # Errors
/// [`LineError`] when the line is not an architecture or the model cannot express it.
pub fn answer_line(estimator: Estimator, bounds: Bounds, line: usize, text: &str) -> Result<Answer, LineError> {
    let answer = || -> Result<Answer, String> {
        let subject = Question::parse(text, bounds)?;
        let Subject { architecture, bounds, input, .. } = &subject;
        let cost = match estimator {
            Estimator::Mapping(model) => evaluate(model, architecture, *input, *bounds).map_err(|e| e.to_string())?,
            Estimator::Finn => subject.pipeline()?.within(*bounds).map(|design| design.cost()),
        };
        Ok(Answer::new(cost))
    };
    answer().map_err(|error| LineError { line, error })
}

/// Explains the answer to line `line` (from 1), which is as in [`answer_line`]. Takes some ten times as long.
///
/// # Errors
/// As [`answer_line`].
pub fn explain_line(estimator: Estimator, bounds: Bounds, line: usize, text: &str) -> Result<Explanation, LineError> {
    let explain = || -> Result<Explanation, String> {
        let subject = Question::parse(text, bounds)?;
        let Subject { architecture, bounds, input, .. } = &subject;
        match estimator {
            Estimator::Mapping(model) => {
                Explanation::of_mapping(model, architecture, *input, *bounds).map_err(|e| e.to_string())
            }
            Estimator::Finn => Ok(Explanation::of_pipeline(&subject.pipeline()?, *bounds)),
        }
    };
    explain().map_err(|error| LineError { line, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: &str = r#"{"kernel":[3,3],"filters":36,"stride":[1,1],"pool":2,"act":[1,4],"weight":[1,5]}"#;
    const NAQS: Estimator = Estimator::Mapping(CostModel::Naqs);
    const CORRECTED: Estimator = Estimator::Mapping(CostModel::Corrected);
    const BOUNDS: Bounds = Bounds { lut: 100_000, throughput: 1_000 };

    fn golden(more: &str) -> String {
        format!(r#"{{"layers":[{}]{more}}}"#, [LAYER; 6].join(","))
    }

    #[test]
    fn the_golden_line() {
        let answer = answer_line(NAQS, BOUNDS, 1, &golden("")).unwrap();
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(json, r#"{"feasible":true,"lut":99576,"cycles":5832,"throughput":17146.776}"#);
    }

    #[test]
    fn a_lines_own_bounds_win() {
        let tight = answer_line(NAQS, BOUNDS, 1, &golden(r#","throughput_bound":20000"#)).unwrap();
        let json = serde_json::to_string(&tight).unwrap();
        assert_eq!(json, r#"{"feasible":false,"lut":0,"cycles":0,"throughput":0.0}"#);
        let none = Bounds { lut: 1, throughput: 1 };
        assert!(!answer_line(NAQS, none, 1, &golden("")).unwrap().feasible);
        let own = golden(r#","lut_bound":1e5,"throughput_bound":1000.0"#);
        assert_eq!(answer_line(NAQS, none, 1, &own).unwrap().lut, 99_576);
    }

    #[test]
    fn a_lines_own_images_count() {
        let digits = golden(r#","input":{"channels":1,"height":28,"width":28},"classes":20"#);
        for estimator in [NAQS, CORRECTED, Estimator::Finn] {
            let (own, usual) =
                (answer_line(estimator, BOUNDS, 1, &digits), answer_line(estimator, BOUNDS, 1, &golden("")));
            assert_ne!(own.unwrap(), usual.unwrap());
        }
        let nothing = golden(r#","input":{"channels":0,"height":28,"width":28}"#);
        assert!(answer_line(NAQS, BOUNDS, 1, &nothing).unwrap_err().error.contains("at least 1"));
    }

    #[test]
    fn finn_lines_have_the_same_form() {
        let answer = answer_line(Estimator::Finn, BOUNDS, 1, &golden("")).unwrap();
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(json, r#"{"feasible":true,"lut":9549,"cycles":93312,"throughput":1071.674}"#);
        let tight = answer_line(Estimator::Finn, BOUNDS, 1, &golden(r#","lut_bound":9548"#)).unwrap();
        assert_eq!(tight, Answer { feasible: false, lut: 0, cycles: 0, throughput: 0.0 });
        let empty = answer_line(Estimator::Finn, BOUNDS, 3, r#"{"layers":[]}"#).unwrap_err();
        assert_eq!(empty.to_string(), "line 3: the architecture has no layers");
    }

    #[test]
    fn explanations_begin_with_the_answer() {
        for estimator in [NAQS, CORRECTED, Estimator::Finn] {
            for bounds in ["", r#","lut_bound":3000,"throughput_bound":5000"#] {
                let answer = answer_line(estimator, BOUNDS, 1, &golden(bounds)).unwrap();
                let explanation = explain_line(estimator, BOUNDS, 1, &golden(bounds)).unwrap();
                assert_eq!(explanation.answer, answer);
                let (answer, explanation) =
                    (serde_json::to_string(&answer).unwrap(), serde_json::to_string(&explanation).unwrap());
                assert!(explanation.starts_with(answer.trim_end_matches('}')), "{explanation}");
            }
            assert_eq!(explain_line(estimator, BOUNDS, 7, "{").unwrap_err().line, 7);
        }
    }

    /// An answer depends on its own line alone, whatever came before.
    #[test]
    fn lines_do_not_know_each_other() {
        let lines = [golden(""), golden(r#","throughput_bound":4000"#), "{".into(), golden(r#","lut_bound":20000"#)];
        for estimator in [NAQS, CORRECTED, Estimator::Finn] {
            let ask = |index: usize| answer_line(estimator, BOUNDS, 1, &lines[index]);
            let forwards: Vec<_> = (0..lines.len()).map(ask).collect();
            let mut backwards: Vec<_> = (0..lines.len()).rev().map(ask).collect();
            backwards.reverse();
            assert_eq!(forwards, backwards);
        }
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        let wrong = |text: &str| answer_line(CORRECTED, BOUNDS, 7, text).unwrap_err().to_string();
        assert!(wrong("{").starts_with("line 7: EOF"));
        assert!(wrong(&golden(r#","colour":1"#)).contains("unknown field `colour`"));
        assert!(wrong(&golden(r#","lut_bound":1.5"#)).contains("1.5 is not a whole number"));
        assert!(wrong(&golden(r#","lut_bound":-1"#)).contains("-1 is not a whole number"));
        assert!(wrong(r#"{"layers":[]}"#).contains("no layers"));
        let error = answer_line(CORRECTED, BOUNDS, 7, r#"{"layers":[]}"#).unwrap_err();
        assert_eq!(serde_json::to_string(&error).unwrap(), r#"{"line":7,"error":"the architecture has no layers"}"#);
    }
}
