//! Recorded evaluations, one a line of a CSV file.

use std::path::{Path, PathBuf};

use podl_consensus::workload::{Architecture, Bounds, ConvLayer, DenseConfig, FixedPoint, Setting, Space};

/// Convolution layers of every recorded network.
const LAYERS: usize = 6;

/// Columns before the first layer: run, episode, bounds.
const FIRST_SETTING: usize = 4;

/// Columns of a line: those, ten settings a layer, accuracy, LUTs, throughput, seconds, whether mappings tied.
const COLUMNS: usize = FIRST_SETTING + LAYERS * 10 + 5;

/// More lines than any log has; longer files are refused.
const MOST_RECORDS: usize = 1_000_000;

/// One evaluated network.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Name of the search it belongs to. Networks of one search are much alike.
    pub run: String,
    /// The network.
    pub architecture: Architecture,
    /// Bounds of that search.
    pub bounds: Bounds,
    /// Share of test images it got right, 0 to 1.
    pub accuracy: f64,
    /// Whether it was within the bounds; others were not trained and count as 0.
    pub is_feasible: bool,
}

/// Why recorded evaluations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("cannot read the recorded evaluations {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of another form.
    #[error("recorded evaluations, line {line}: got {got:?}, expected {expected}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        got: String,
        /// What should.
        expected: &'static str,
    },
    /// More than fits.
    #[error("recorded evaluations: more than {MOST_RECORDS} lines")]
    TooMany,
}

/// Reads recorded evaluations: a heading, then one a line.
///
/// # Errors
/// [`TableError`].
pub fn read_records(path: &Path) -> Result<Vec<Record>, TableError> {
    let text = std::fs::read_to_string(path).map_err(|source| TableError::Io { path: path.into(), source })?;
    if text.lines().count() > MOST_RECORDS {
        return Err(TableError::TooMany);
    }
    text.lines().enumerate().skip(1).map(|(index, line)| parse(line, index + 1)).collect()
}

fn parse(text: &str, line: usize) -> Result<Record, TableError> {
    let bad = |got: &str, expected| TableError::Line { line, got: got.into(), expected };
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    if fields.len() != COLUMNS {
        return Err(bad(&fields.len().to_string(), "69 columns"));
    }
    let number = |at: usize| fields[at].parse::<u64>().map_err(|_| bad(fields[at], "a whole number"));
    let small = |at: usize| fields[at].parse::<u8>().map_err(|_| bad(fields[at], "a number below 256"));
    let layer = |index: usize| {
        let at = FIRST_SETTING + 10 * index;
        Ok(ConvLayer {
            kernel: [small(at)?, small(at + 1)?],
            filters: fields[at + 2].parse().map_err(|_| bad(fields[at + 2], "a number of filters"))?,
            stride: [small(at + 3)?, small(at + 4)?],
            pool: small(at + 5)?,
            act: FixedPoint::new(small(at + 6)?, small(at + 7)?),
            weight: FixedPoint::new(small(at + 8)?, small(at + 9)?),
        })
    };
    let results = FIRST_SETTING + LAYERS * 10;
    let accuracy = fields[results].parse().ok().filter(|a| (0.0..=1.0).contains(a));
    Ok(Record {
        run: fields[0].into(),
        architecture: Architecture { layers: (0..LAYERS).map(layer).collect::<Result<_, _>>()? },
        bounds: Bounds { lut: number(2)?, throughput: number(3)? },
        accuracy: accuracy.ok_or_else(|| bad(fields[results], "an accuracy from 0 to 1"))?,
        is_feasible: number(results + 1)? > 0,
    })
}

/// The space that recorded networks span: every value that occurs. `None` without records.
pub fn recorded_space<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> Option<Space> {
    let values = |setting: Setting| {
        let layers = records.clone().flat_map(|record| &record.architecture.layers);
        let mut values: Vec<u16> = layers.map(|layer| setting.get(layer)).collect();
        values.sort_unstable();
        values.dedup();
        values
    };
    // All but the filters are bytes of a layer.
    let bytes = |setting| values(setting).into_iter().filter_map(|v| u8::try_from(v).ok()).collect();
    let first = records.clone().next()?;
    Some(Space {
        conv_layers: u8::try_from(first.architecture.layers.len()).ok()?,
        kernel_height: bytes(Setting::KernelHeight),
        kernel_width: bytes(Setting::KernelWidth),
        filters: values(Setting::Filters),
        stride_height: bytes(Setting::StrideHeight),
        stride_width: bytes(Setting::StrideWidth),
        pool: bytes(Setting::Pool),
        act_int: bytes(Setting::ActInt),
        act_frac: bytes(Setting::ActFrac),
        weight_int: bytes(Setting::WeightInt),
        weight_frac: bytes(Setting::WeightFrac),
        dense: DenseConfig::default(),
    })
}
