//! The model card as Markdown.

use std::fmt::{self, Write as _};

use podl_consensus::workload::FixedPoint;

use super::card::{Card, CostCard, LayerCard};
use super::provenance::Provenance;
use crate::cost::Answer;

impl Card {
    /// The card for people to read. The input table is left to the JSON form.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "# Model {}\n", self.model_root.short())?;
        self.write_facts(text)?;
        writeln!(text, "\n## Layers\n")?;
        write_layers(text, &self.layers)?;
        writeln!(text, "\n## Arithmetic\n\n{}", self.arithmetic())?;
        if let Some(cost) = &self.cost {
            writeln!(text, "\n## FPGA cost\n")?;
            write_cost(text, cost)?;
        }
        if let Some(provenance) = &self.provenance {
            writeln!(text, "\n## Provenance\n")?;
            write_provenance(text, provenance)?;
        }
        Ok(())
    }

    fn write_facts(&self, text: &mut String) -> fmt::Result {
        let input = self.input;
        let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |");
        row("", String::new())?;
        row("---", "---".into())?;
        row("model root", format!("`{}`", self.model_root))?;
        row("artefact", format!("{} bytes, engine version {}", self.artefact_bytes, self.engine_version))?;
        row("input", format!("{} x {} x {} (channels, rows, columns)", input.channels, input.height, input.width))?;
        row("classes", self.classes.to_string())?;
        row("parameters", self.parameters.to_string())?;
        row("multiply-accumulates an image", self.macs.to_string())?;
        row("MAC-bits an image", self.mac_bits.to_string())?;
        match &self.evaluation {
            None => row("accuracy", "not evaluated".into()),
            Some(e) => {
                let set = format!("{} ({} images)", e.dataset, e.split);
                row("accuracy", format!("{} of {} correct ({:.4}) on {set}", e.correct, e.images, e.accuracy))
            }
        }
    }

    fn arithmetic(&self) -> String {
        let inexact: Vec<&str> =
            self.layers.iter().filter(|layer| !layer.float32_exact).map(|layer| layer.name.as_str()).collect();
        if inexact.is_empty() {
            "32-bit floats compute this model exactly: no partial sum of any layer can exceed 2^24 steps, in whatever \
             order it is added up."
                .into()
        } else {
            format!(
                "32-bit floats may round: sums of {} can exceed 2^24 steps. The integer engine decides; an executor in \
                 floats can differ from it.",
                inexact.join(", ")
            )
        }
    }
}

fn pair([first, second]: [u8; 2], between: &str) -> String {
    format!("{first}{between}{second}")
}

fn or_none<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or("-".into(), text)
}

fn write_layers(text: &mut String, layers: &[LayerCard]) -> fmt::Result {
    writeln!(
        text,
        "| layer | input | output | kernel | stride | pool | act bits | weight bits | parameters | MACs | sum bits |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---:|---:|---:|")?;
    let shape = |shape: [u32; 3]| shape.map(|length| length.to_string()).join(" x ");
    let bits = |format: FixedPoint| pair(format.into(), "+");
    for layer in layers {
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            layer.name,
            shape(layer.input),
            shape(layer.output),
            or_none(layer.kernel, |kernel| pair(kernel, " x ")),
            or_none(layer.stride, |stride| pair(stride, " x ")),
            or_none(layer.pool, |pool| pool.to_string()),
            or_none(layer.act, bits),
            bits(layer.weight),
            layer.parameters,
            layer.macs,
            layer.accumulator_bits,
        )?;
    }
    writeln!(text, "\nBits are integer + fraction bits; weights count their sign. Sum bits hold every partial sum.")
}

fn write_cost(text: &mut String, cost: &CostCard) -> fmt::Result {
    let bounds = cost.bounds;
    writeln!(text, "Within {} LUT, more than {} images/s, at 100 MHz:\n", bounds.lut, bounds.throughput)?;
    writeln!(text, "| cost model | LUT | cycles | images/s |\n|---|---:|---:|---:|")?;
    for (name, answer) in [("corrected", cost.corrected), ("naqs", cost.naqs), ("finn", cost.finn)] {
        match answer {
            Answer { feasible: false, .. } => writeln!(text, "| {name} | infeasible | | |")?,
            Answer { lut, cycles, throughput, .. } => {
                writeln!(text, "| {name} | {lut} | {cycles} | {throughput:.3} |")?;
            }
        }
    }
    writeln!(
        text,
        "\n`corrected` is what chains judge by; `finn` includes the dense layers and is 10-30 % off synthesis."
    )
}

fn write_provenance(text: &mut String, provenance: &Provenance) -> fmt::Result {
    let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |");
    row("", String::new())?;
    row("---", "---".into())?;
    match (&provenance.chain_name, provenance.chain) {
        (Some(name), Some(chain)) => row("chain", format!("{name} (`{chain}`)"))?,
        (Some(name), None) => row("chain", name.clone())?,
        (None, Some(chain)) => row("chain", format!("`{chain}`"))?,
        (None, None) => {}
    }
    if let Some(task) = &provenance.task {
        row("task", format!("{} (`{}`)", task.name.replace('|', "\\|"), task.id))?;
        if let Some(root) = task.data_root {
            row("training data", format!("`{root}`"))?;
        }
    }
    if let Some(won) = &provenance.won {
        let is_final = if won.is_final { "final" } else { "not final yet" };
        row("block", format!("height {}, round {}, {is_final}, `{}`", won.height, won.round, won.block))?;
        row("miner", format!("`{}`", won.miner))?;
        row("sealed shard", format!("{} of {} images correct", won.correct, won.images))?;
    }
    Ok(())
}
