//! An explanation of a network's cost in words.

use podl_nas::cost::finn::{Unit, UnitKind};
use podl_nas::cost::{Bottleneck, Explanation, Group, Parts, Verdict};

use super::super::output::grouped;

/// The explanation in lines of words and figures. Layers count from 0.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut lines = vec![verdict(explanation)];
    let (smallest, fastest) = (explanation.smallest, explanation.fastest);
    lines.push(format!(
        "  smallest     {} LUT at any speed, most of it by layer {}",
        grouped(smallest.lut),
        smallest.layer
    ));
    lines.push(format!(
        "  fastest      {:.1} images/s at any size, capped by layer {} ({} cycles)",
        fastest.throughput,
        fastest.layer,
        grouped(fastest.cycles)
    ));
    if let Some(lut) = explanation.lut_needed {
        lines.push(format!("  LUT needed   {} for {}", grouped(lut), wanted(explanation)));
    }
    if let Some(found) = explanation.at_lut_bound {
        lines.push(format!(
            "  best within  {:.1} images/s within {} LUT (with {}, {} cycles)",
            found.throughput,
            grouped(explanation.lut_bound),
            grouped(found.lut),
            grouped(found.cycles)
        ));
    }
    if let (Some(parts), Some(bottleneck)) = (&explanation.design, explanation.bottleneck) {
        lines.extend(design(parts, bottleneck));
    }
    lines.join("\n")
}

fn wanted(explanation: &Explanation) -> String {
    format!("more than {} images/s", grouped(explanation.throughput_bound))
}

fn verdict(explanation: &Explanation) -> String {
    let (lut, wanted) = (grouped(explanation.lut_bound), wanted(explanation));
    match explanation.verdict {
        Verdict::Feasible => format!("feasible: {wanted} within {lut} LUT"),
        Verdict::TooLarge => format!("infeasible: too large for {lut} LUT at any speed"),
        Verdict::TooSlow => format!("infeasible: no design of any size does {wanted}"),
        Verdict::NotBoth => format!("infeasible: nothing found that does {wanted} within {lut} LUT"),
    }
}

/// One line a part of the design; the bottleneck is marked.
fn design(parts: &Parts, bottleneck: Bottleneck) -> Vec<String> {
    let texts: Vec<String> = match parts {
        Parts::Groups(groups) => groups.iter().map(group).collect(),
        Parts::Units(units) => units.iter().map(unit).collect(),
    };
    let mark = |index| if index == bottleneck.part { "  <- takes most" } else { "" };
    texts.iter().enumerate().map(|(index, text)| format!("  {text}{}", mark(index))).collect()
}

fn group(group: &Group) -> String {
    let layers = if group.first == group.last {
        format!("layer {}", group.first)
    } else {
        format!("layers {}-{}", group.first, group.last)
    };
    format!(
        "{layers:<13}{:>9} LUT {:>11} cycles, set by layer {}",
        grouped(group.lut),
        grouped(group.cycles),
        group.slowest
    )
}

fn unit(unit: &Unit) -> String {
    let name = match unit.unit {
        UnitKind::SlidingWindow => "window",
        UnitKind::MatrixVector => "matrix",
        UnitKind::MaxPool => "pool",
    };
    format!(
        "layer {:<3}{name:<7} PE {:>3} SIMD {:>3} {:>9} LUT {:>11} cycles {:>4} BRAM18",
        unit.layer,
        unit.pe,
        unit.simd,
        grouped(unit.lut),
        grouped(unit.cycles),
        unit.bram18
    )
}
