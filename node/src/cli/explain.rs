//! A specification with every parameter explained. The words are those beside the fields in the sources of the
//! chain-spec crate, so that they cannot drift from them.

use std::collections::BTreeMap;

use podl_chain_spec::ChainSpec;

const SOURCES: [&str; 2] =
    [include_str!("../../../chain-spec/src/spec.rs"), include_str!("../../../chain-spec/src/caps.rs")];

/// Explanations by structure and field; the field is empty for the structure itself.
fn explanations() -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for source in SOURCES {
        let (mut words, mut within) = (Vec::new(), String::new());
        for line in source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                words.push(text.trim().to_owned());
                continue;
            }
            if line.starts_with("#[") {
                continue;
            }
            let name = |rest: &str, end: char| rest.split(end).next().unwrap_or_default().trim().to_owned();
            if let Some(rest) = line.strip_prefix("pub struct ") {
                within = name(rest, ' ');
                found.insert((within.clone(), String::new()), words.join(" "));
            } else if let Some(rest) = line.strip_prefix("pub ").filter(|rest| rest.contains(": ")) {
                found.insert((within.clone(), name(rest, ':')), words.join(" "));
            }
            words.clear();
        }
    }
    found
}

/// The structure behind a section of the file.
fn structure(section: &str) -> String {
    match section {
        "" => "ChainSpec".into(),
        "network" => "NetworkHints".into(),
        other => other[..1].to_uppercase() + &other[1..],
    }
}

/// The specification as TOML with explanations as comments.
pub(super) fn explained(spec: &ChainSpec) -> anyhow::Result<String> {
    let explanations = explanations();
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in toml::to_string(spec)?.lines() {
        if let Some(name) = line.strip_prefix("[[").or_else(|| line.strip_prefix('[')).filter(|_| !line.contains('=')) {
            section = name.trim_end_matches(']').to_owned();
            let words = explanations.get(&(structure(&section), String::new()));
            lines.extend(words.map(|words| format!("# {words}")));
        } else if let Some((name, _)) = line.split_once(" = ") {
            let words = explanations.get(&(structure(&section), name.trim().to_owned()));
            lines.extend(words.map(|words| format!("# {words}")));
        }
        lines.push(line.to_owned());
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_explained_and_the_text_is_still_the_specification() {
        let spec = ChainSpec::load("testnet").unwrap();
        let text = explained(&spec).unwrap();
        assert_eq!(ChainSpec::parse(&text).unwrap(), spec);
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let is_parameter = line.contains(" = ") && !line.starts_with(['#', ' ']) && !line.starts_with("account");
            if is_parameter && !line.starts_with("balance") {
                assert!(index > 0 && lines[index - 1].starts_with("# "), "not explained: {line}");
            }
        }
        assert!(text.contains("# Phase 2: training"));
    }
}
