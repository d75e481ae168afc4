//! The paper's own subspaces S1 to S9 (tables 1 and 2).

use podl_consensus::workload::Space;

use super::Subspace;

/// S1 to S9 as far as they lie in `space`; those of which nothing does are left out, and the whole space is what remains
/// when that is all of them.
pub fn paper_table(space: &Space) -> Vec<Subspace> {
    let whole = Subspace::whole(space.clone());
    let named = (1..=9u8).filter_map(|number| Space::preset(&format!("S{number}"), space.conv_layers));
    let parts: Vec<Subspace> = named
        .filter_map(|mut preset| {
            preset.dense = space.dense;
            whole.intersection(&Subspace::whole(preset))
        })
        .collect();
    if parts.is_empty() { vec![whole] } else { parts }
}
