//! `podl nas cost`: one architecture a line in, one answer a line out.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use podl_consensus::workload::Bounds;
use podl_nas::cost::{Answer, CostModel, Estimator, Explanation, LineError, answer_line, explain_line};
use serde::Serialize;

use super::super::bounds::BoundsArgs;
use super::super::output::{Out, grouped};
use super::explain;

/// No architecture needs more; longer lines are refused without being held in memory.
const LINE_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// Which model.
    #[arg(long, value_enum, default_value = "corrected")]
    model: Model,
    #[command(flatten)]
    bounds: BoundsArgs,
    /// Say why a network is feasible or not: which layers cap it, and what it would take. Slower.
    #[arg(long)]
    explain: bool,
    /// JSON Lines: an architecture each; - is standard input. A line's "lut_bound" and "throughput_bound" win; its "input"
    /// and "classes" stand for 3 x 32 x 32 and 10.
    #[arg(default_value = "-")]
    file: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Model {
    /// The published program, slips included.
    Naqs,
    /// The same with the slips mended; what chains use.
    Corrected,
    /// The FINN tool chain's estimators, dense layers included: a second opinion for those who build with it. The
    /// published error is 10 to 30 % against synthesis (R^2 of 0.8 to 0.98).
    Finn,
}

impl Model {
    fn estimator(self) -> Estimator {
        match self {
            Self::Naqs => Estimator::Mapping(CostModel::Naqs),
            Self::Corrected => Estimator::Mapping(CostModel::Corrected),
            Self::Finn => Estimator::Finn,
        }
    }
}

/// What a line is asked.
#[derive(Clone, Copy)]
struct Asked {
    model: Model,
    bounds: Bounds,
    explain: bool,
}

/// What is printed for a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Answer(Answer),
    Explanation(Box<Explanation>),
}

pub(crate) fn run(args: &CostArgs, out: &Out) -> anyhow::Result<()> {
    let mut input: Box<dyn BufRead> = match args.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).with_context(|| format!("cannot read {path}"))?)),
    };
    let asked = Asked { model: args.model, bounds: args.bounds.read(), explain: args.explain };
    let (mut lines, mut bad) = (0, 0);
    let mut bytes = Vec::new();
    while next_line(&mut input, &mut bytes).with_context(|| format!("cannot read {}", args.file))? {
        lines += 1;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match reply(asked, lines, &bytes) {
            Ok(reply) => out.record(&reply, || reply.text(asked.model))?,
            Err(error) => {
                bad += 1;
                out.record(&error, || error.to_string())?;
            }
        }
    }
    if bad > 0 {
        bail!("{bad} of {lines} lines could not be answered; mend the lines named above");
    }
    Ok(())
}

/// Reads a line, at most [`LINE_BYTES`] and one byte of it; skips the rest of a longer one. False at the end.
fn next_line(input: &mut dyn BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    let read = Read::take(&mut *input, LINE_BYTES + 1).read_until(b'\n', bytes)?;
    if read as u64 > LINE_BYTES && bytes.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

fn reply(asked: Asked, line: usize, bytes: &[u8]) -> Result<Reply, LineError> {
    let wrong = |error: String| LineError { line, error };
    if bytes.len() as u64 > LINE_BYTES {
        return Err(wrong(format!("longer than {LINE_BYTES} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(e.to_string()))?;
    let estimator = asked.model.estimator();
    if asked.explain {
        explain_line(estimator, asked.bounds, line, text).map(|explanation| Reply::Explanation(Box::new(explanation)))
    } else {
        answer_line(estimator, asked.bounds, line, text).map(Reply::Answer)
    }
}

impl Reply {
    fn text(&self, model: Model) -> String {
        match self {
            Self::Explanation(explanation) => explain::text(explanation),
            Self::Answer(answer) if !answer.feasible => "infeasible".into(),
            Self::Answer(answer) => {
                let band = if matches!(model, Model::Finn) { " (10-30 % off synthesis)" } else { "" };
                let (lut, cycles) = (grouped(answer.lut), grouped(answer.cycles));
                format!("{lut} LUT, {cycles} cycles, {:.3} images/s{band}", answer.throughput)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_refused_and_the_next_is_read() {
        let asked = Asked { model: Model::Naqs, bounds: Bounds { lut: 1, throughput: 1 }, explain: false };
        let long = format!("{}\n{{}}\n", "x".repeat(3 << 20));
        let mut input = BufReader::new(long.as_bytes());
        let mut bytes = Vec::new();
        assert!(next_line(&mut input, &mut bytes).unwrap());
        assert!(reply(asked, 1, &bytes).err().unwrap().error.contains("longer"));
        assert!(next_line(&mut input, &mut bytes).unwrap());
        assert!(reply(asked, 2, &bytes).err().unwrap().error.contains("layers"));
        assert!(!next_line(&mut input, &mut bytes).unwrap());
    }
}
