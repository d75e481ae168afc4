//! `--bounds`, `--lut` and `--throughput`.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use podl_consensus::workload::Bounds;
use podl_nas::cost::BOUNDS_PRESETS;

/// What a search keeps to unless told otherwise: the bounds of filler intervals on the chains that this program knows.
const SEARCH: Bounds = Bounds { lut: 100_000, throughput: 1_000 };

/// Bounds that must be given, by name or one by one.
#[derive(Debug, Args)]
pub(super) struct BoundsArgs {
    /// Both bounds by name; --lut and --throughput win.
    #[arg(long, value_name = "NAME", value_parser = named())]
    bounds: Option<Bounds>,
    /// Most LUTs of a network's FPGA design.
    #[arg(long, required_unless_present = "bounds")]
    lut: Option<u64>,
    /// A network's design must be faster than this, in images a second.
    #[arg(long, required_unless_present = "bounds")]
    throughput: Option<u64>,
}

/// Bounds with a default.
#[derive(Debug, Args)]
pub(super) struct SearchBoundsArgs {
    /// Both bounds by name; --lut and --throughput win.
    #[arg(long, value_name = "NAME", value_parser = named())]
    bounds: Option<Bounds>,
    /// Most LUTs of a network's FPGA mapping [default: 100000].
    #[arg(long)]
    lut: Option<u64>,
    /// A network's mapping must be faster than this, in images a second [default: 1000].
    #[arg(long)]
    throughput: Option<u64>,
}

/// Bounds of a model that may know its own.
#[derive(Debug, Args)]
pub(super) struct ModelBoundsArgs {
    /// Bounds of a card's FPGA cost by name; --lut and --throughput win [default: the task's, if known].
    #[arg(long, value_name = "NAME", value_parser = named())]
    bounds: Option<Bounds>,
    /// Most LUTs of a network's FPGA design [default: 100000 where --throughput is given].
    #[arg(long)]
    lut: Option<u64>,
    /// A network's design must be faster than this, in images a second [default: 1000 where --lut is given].
    #[arg(long)]
    throughput: Option<u64>,
}

impl ModelBoundsArgs {
    /// The bounds that are meant, `None` when nothing was said.
    pub(super) fn read(&self) -> Option<Bounds> {
        let is_given = self.bounds.is_some() || self.lut.is_some() || self.throughput.is_some();
        is_given.then(|| merge(self.bounds.unwrap_or(SEARCH), self.lut, self.throughput))
    }
}

impl BoundsArgs {
    /// The bounds that are meant.
    pub(super) fn read(&self) -> Bounds {
        // Clap has seen to it that what has no name is given.
        merge(self.bounds.unwrap_or(Bounds { lut: 0, throughput: 0 }), self.lut, self.throughput)
    }
}

impl SearchBoundsArgs {
    /// The bounds that are meant.
    pub(super) fn read(&self) -> Bounds {
        merge(self.bounds.unwrap_or(SEARCH), self.lut, self.throughput)
    }
}

fn merge(named: Bounds, lut: Option<u64>, throughput: Option<u64>) -> Bounds {
    Bounds { lut: lut.unwrap_or(named.lut), throughput: throughput.unwrap_or(named.throughput) }
}

fn named() -> impl TypedValueParser<Value = Bounds> {
    let names = BOUNDS_PRESETS.map(|preset| PossibleValue::new(preset.name).help(preset.about));
    PossibleValuesParser::new(names).try_map(|name| {
        let preset = BOUNDS_PRESETS.iter().find(|preset| preset.name == name);
        preset.map(|preset| preset.bounds).ok_or("not a name of bounds")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        bounds: BoundsArgs,
    }

    fn read(args: &[&str]) -> Option<Bounds> {
        Command::try_parse_from([&["podl"], args].concat()).ok().map(|command| command.bounds.read())
    }

    #[test]
    fn a_name_stands_for_both_and_numbers_win() {
        assert_eq!(read(&["--bounds", "fast"]), Some(Bounds { lut: 100_000, throughput: 5_000 }));
        assert_eq!(read(&["--bounds", "fast", "--lut", "7"]), Some(Bounds { lut: 7, throughput: 5_000 }));
        assert_eq!(read(&["--lut", "7", "--throughput", "9"]), Some(Bounds { lut: 7, throughput: 9 }));
        assert_eq!(read(&["--lut", "7"]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["--bounds", "loose"]), None);
    }
}
