//! Reading the sources, in rising precedence.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use podl_nas::search::StrategyKind;
use podl_pool::partition::Scheme;

use super::keys::Given;
use super::{ConfigError, KEYS, Key, NodeConfig, PayKind, Source};
use crate::logging::LogFormat;

/// Name of the configuration file in a data folder.
pub const CONFIG_FILE: &str = "podl.toml";
/// Environment variables of keys begin with it.
pub const ENVIRONMENT_PREFIX: &str = "PODL_";
/// Variables with the prefix that are no keys of a node.
const OTHER_VARIABLES: [&str; 5] =
    ["PODL_PASSWORD", "PODL_WALLET_DIR", "PODL_CONFIG", "PODL_RPC_TOKEN_FILE", "PODL_COMMIT"];

impl Default for NodeConfig {
    /// What the table of keys says.
    fn default() -> Self {
        let mut config = Self {
            chain: String::new(),
            data_dir: PathBuf::new(),
            listen: Vec::new(),
            bootnodes: Vec::new(),
            external: Vec::new(),
            nat: false,
            relays: Vec::new(),
            serve_relay: false,
            mdns: None,
            rpc: None,
            metrics: None,
            wallet: None,
            password_file: None,
            mine: false,
            mine_threads: 0,
            pool_manager: false,
            pool_fee_basis_points: 0,
            pool_pay: PayKind::Pplns,
            pool_window: 1,
            pool_finder_basis_points: 0,
            pool_strategy: StrategyKind::Predictor,
            pool_partition: Scheme::Whole,
            pool_starting_points: false,
            score_threads: 1,
            max_peers: 1,
            blob_quota_bytes: 0,
            min_free_bytes: 0,
            archive: false,
            log: String::new(),
            log_format: LogFormat::Text,
        };
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            let line = format!("{} = {}", key.name, key.default);
            let table: toml::Table = line.parse().unwrap_or_default();
            let set = apply_table(&mut config, &table, &Source::Default);
            debug_assert!(set.is_ok(), "the default of {} must be valid", key.name);
        }
        config
    }
}

/// The variables of this process that are text; others cannot be meant for a node.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The configuration that the sources make together, and warnings about what was not understood.
///
/// `file` must exist if it is given; else `podl.toml` of the data folder is read if it is there. `environment` are all
/// variables of the process; `flags` are the flag as it was written, its key, and its values.
///
/// # Errors
/// [`ConfigError`], which names the key and the source.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, &str, Vec<String>)],
) -> Result<(NodeConfig, Vec<String>), ConfigError> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    // The file may lie in a data folder that only environment or flags name, so they are read first, and once more on
    // top of the file.
    let mut upper = NodeConfig::default();
    let warnings = apply_environment(&mut upper, &environment)?;
    apply_flags(&mut upper, flags)?;
    fill_data_dir(&mut upper);
    let implied = upper.data_dir.join(CONFIG_FILE);
    let Some(path) = file.or_else(|| implied.exists().then_some(implied.as_path())) else {
        return Ok((upper, warnings));
    };
    let mut config = NodeConfig::default();
    apply_file(&mut config, path)?;
    apply_environment(&mut config, &environment)?;
    apply_flags(&mut config, flags)?;
    if file.is_none() && config.data_dir.as_os_str().is_empty() {
        config.data_dir = upper.data_dir;
    }
    fill_data_dir(&mut config);
    Ok((config, warnings))
}

fn fill_data_dir(config: &mut NodeConfig) {
    if config.data_dir.as_os_str().is_empty() {
        config.data_dir = crate::paths::default_data_dir(&config.chain);
    }
}

fn apply(config: &mut NodeConfig, name: &str, given: &Given, source: &Source) -> Result<(), ConfigError> {
    let Some(key) = Key::find(name) else {
        let hint = closest(name).map_or(String::new(), |k| format!(" (did you mean {k}?)"));
        return Err(ConfigError::UnknownKey { key: name.into(), source_of_value: source.clone(), hint });
    };
    let refuse =
        |reason| ConfigError::Value { key: key.name, got: given.text(), source_of_value: source.clone(), reason };
    (key.set)(config, given).map_err(refuse)
}

fn apply_file(config: &mut NodeConfig, path: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let one_line = |e: toml::de::Error| {
        let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("line {line}: {}", e.message().replace('\n', " "))
    };
    let table: toml::Table =
        text.parse().map_err(|e| ConfigError::Syntax { path: path.into(), reason: one_line(e) })?;
    apply_table(config, &table, &Source::File(path.into()))
}

fn apply_table(config: &mut NodeConfig, table: &toml::Table, source: &Source) -> Result<(), ConfigError> {
    table.iter().try_for_each(|(name, value)| apply(config, name, &given(value), source))
}

fn given(value: &toml::Value) -> Given {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        toml::Value::Array(list) => Given::Many(list.iter().map(text).collect()),
        other => Given::One(text(other)),
    }
}

fn apply_environment(config: &mut NodeConfig, variables: &[(String, String)]) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    // What Rust programs have in common; PODL_LOG, which comes second, wins.
    for (variable, value) in variables.iter().filter(|(variable, _)| variable == "RUST_LOG") {
        apply(config, "log", &Given::One(value.clone()), &Source::Environment(variable.clone()))?;
    }
    for (variable, value) in variables {
        let Some(rest) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let name = rest.to_ascii_lowercase();
        if Key::find(&name).is_some() {
            apply(config, &name, &Given::One(value.clone()), &Source::Environment(variable.clone()))?;
        } else if !OTHER_VARIABLES.contains(&variable.as_str()) {
            warnings.push(format!("the environment variable {variable} is not known and has no effect"));
        }
    }
    Ok(warnings)
}

fn apply_flags(config: &mut NodeConfig, flags: &[(String, &str, Vec<String>)]) -> Result<(), ConfigError> {
    flags.iter().try_for_each(|(flag, name, values)| {
        let given = match values.as_slice() {
            [one] => Given::One(one.clone()),
            many => Given::Many(many.to_vec()),
        };
        apply(config, name, &given, &Source::Flag(flag.clone()))
    })
}

/// The key with the most letters in common at its start and end, if it is a likely slip.
fn closest(name: &str) -> Option<&'static str> {
    let common = |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let reversed = |s: &str| s.chars().rev().collect::<String>();
    let likeness = |key: &Key| {
        let both = common(key.name, name) + common(&reversed(key.name), &reversed(name));
        (both + 2 >= key.name.len().max(name.len())).then_some((both, key.name))
    };
    KEYS.iter().filter_map(likeness).max().map(|(_, name)| name)
}

/// A configuration file with every key, explained and commented out but for `chosen`.
pub fn template(chosen: &[(&str, String)]) -> String {
    let mut text = String::from(
        "# Configuration of a podl node. Every key can also be set by an environment variable (PODL_ and the key in\n\
         # capitals), which wins over this file, and by a flag or --set KEY=VALUE, which wins over both.\n",
    );
    for key in KEYS {
        let help = key.help.replace('\n', "\n# ");
        let value = chosen.iter().find(|(name, _)| *name == key.name);
        let line = match value {
            Some((name, value)) => format!("{name} = {}", toml::Value::String(value.clone())),
            None if key.default.is_empty() => format!("# {} = \"\"", key.name),
            None => format!("# {} = {}", key.name, key.default),
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n# {help}\n{line}\n");
    }
    text
}
