//! `podl nas cost`: one architecture a line in, one answer a line out.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use podl_consensus::workload::Bounds;
use podl_nas::cost::{Answer, CostModel, LineError, answer_line};

use super::super::output::{Out, grouped};

/// No architecture needs more; longer lines are refused without being held in memory.
const LINE_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// Which variant of the model.
    #[arg(long, value_enum, default_value = "corrected")]
    model: Model,
    /// Most LUTs; a line's "lut_bound" wins.
    #[arg(long)]
    lut: u64,
    /// The mapping must be faster than this, in images a second; a line's "throughput_bound" wins.
    #[arg(long)]
    throughput: u64,
    /// JSON Lines: an architecture each; - is standard input.
    #[arg(default_value = "-")]
    file: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Model {
    /// The published program, slips included.
    Naqs,
    /// The same with the slips mended; what chains use.
    Corrected,
}

pub(crate) fn run(args: &CostArgs, out: &Out) -> anyhow::Result<()> {
    let mut input: Box<dyn BufRead> = match args.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).with_context(|| format!("cannot read {path}"))?)),
    };
    let (mut lines, mut bad) = (0, 0);
    let mut bytes = Vec::new();
    while next_line(&mut input, &mut bytes).with_context(|| format!("cannot read {}", args.file))? {
        lines += 1;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match answer(args, lines, &bytes) {
            Ok(answer) => out.record(&answer, || text(&answer))?,
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

fn answer(args: &CostArgs, line: usize, bytes: &[u8]) -> Result<Answer, LineError> {
    let wrong = |error: String| LineError { line, error };
    if bytes.len() as u64 > LINE_BYTES {
        return Err(wrong(format!("longer than {LINE_BYTES} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(e.to_string()))?;
    let model = match args.model {
        Model::Naqs => CostModel::Naqs,
        Model::Corrected => CostModel::Corrected,
    };
    answer_line(model, Bounds { lut: args.lut, throughput: args.throughput }, line, text)
}

fn text(answer: &Answer) -> String {
    if !answer.feasible {
        return "infeasible".into();
    }
    format!("{} LUT, {} cycles, {:.3} images/s", grouped(answer.lut), grouped(answer.cycles), answer.throughput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_refused_and_the_next_is_read() {
        let args = CostArgs { model: Model::Naqs, lut: 1, throughput: 1, file: "-".into() };
        let long = format!("{}\n{{}}\n", "x".repeat(3 << 20));
        let mut input = BufReader::new(long.as_bytes());
        let mut bytes = Vec::new();
        assert!(next_line(&mut input, &mut bytes).unwrap());
        assert!(answer(&args, 1, &bytes).unwrap_err().error.contains("longer"));
        assert!(next_line(&mut input, &mut bytes).unwrap());
        assert!(answer(&args, 2, &bytes).unwrap_err().error.contains("layers"));
        assert!(!next_line(&mut input, &mut bytes).unwrap());
    }
}
