use std::path::Path;

use super::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn flag(key: &'static str, value: &str) -> (String, &'static str, Vec<String>) {
    ("--flag".to_owned(), key, vec![value.to_owned()])
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn every_default_is_valid_and_every_key_is_used() {
    let config = NodeConfig::default();
    assert_eq!((config.chain.as_str(), config.max_peers, config.listen.len()), ("dev", 50, 2));
    assert_eq!(config.rpc, Some("127.0.0.1:9744".parse().unwrap()));
    assert_eq!(config.metrics, None);
    assert_eq!(config.log, "info");
    let mut names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KEYS.len());
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = file("max_peers = 10\nmine = true\nlog = \"warn\"\nchain = \"testnet\"\n");
    let env = env(&[("PODL_MAX_PEERS", "20"), ("PODL_LOG", "debug"), ("HOME", "/h")]);
    let (config, warnings) = load(Some(file.path()), env, &[flag("max_peers", "30")]).unwrap();
    assert_eq!((config.max_peers, config.log.as_str(), config.mine, config.archive), (30, "debug", true, false));
    assert_eq!(config.chain, "testnet");
    assert!(warnings.is_empty());
}

#[test]
fn the_file_of_the_data_folder_is_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CONFIG_FILE), "max_peers = 7\n").unwrap();
    let flags = [flag("data_dir", dir.path().to_str().unwrap())];
    let (config, _) = load(None, env(&[]), &flags).unwrap();
    assert_eq!((config.max_peers, config.data_dir.as_path()), (7, dir.path()));
    let elsewhere = [flag("data_dir", "/nowhere/at/all")];
    assert_eq!(load(None, env(&[]), &elsewhere).unwrap().0.max_peers, 50);
}

#[test]
fn lists_come_as_lists_or_with_commas() {
    let list = file("bootnodes = [\"/ip4/10.0.0.1/tcp/1\", \"/ip4/10.0.0.2/tcp/2\"]\n");
    assert_eq!(load(Some(list.path()), env(&[]), &[]).unwrap().0.bootnodes.len(), 2);
    let env = env(&[("PODL_BOOTNODES", "/ip4/10.0.0.1/tcp/1, /ip4/10.0.0.2/tcp/2,/ip4/10.0.0.3/tcp/3")]);
    assert_eq!(load(None, env, &[]).unwrap().0.bootnodes.len(), 3);
}

fn refused(result: Result<(NodeConfig, Vec<String>), ConfigError>) -> String {
    let text = result.unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn errors_name_key_and_source() {
    let bad = file("max_peers = \"many\"\n");
    let text = refused(load(Some(bad.path()), env(&[]), &[]));
    assert!(text.contains("max_peers = \"many\"") && text.contains(bad.path().to_str().unwrap()), "{text}");
    let text = refused(load(None, env(&[("PODL_RPC", "localhost")]), &[]));
    assert!(text.contains("rpc = \"localhost\" from the environment variable PODL_RPC: expected IP:PORT"), "{text}");
    let text = refused(load(None, env(&[]), &[flag("listen", "tcp/9743")]));
    assert!(text.contains("listen") && text.contains("the flag --flag"), "{text}");
    let text = refused(load(None, env(&[("PODL_POOL_FEE_BASIS_POINTS", "10001")]), &[]));
    assert!(text.contains("at most 10000"), "{text}");
    let text = refused(load(None, env(&[("PODL_LOG", "info,=x=y")]), &[]));
    assert!(text.contains("PODL_LOG"), "{text}");
    let typo = file("max_pears = 3\n");
    let text = refused(load(Some(typo.path()), env(&[]), &[]));
    assert!(text.contains("\"max_pears\"") && text.contains("did you mean max_peers?"), "{text}");
    let broken = file("mine = true\nmax_peers = = 3\n");
    let text = refused(load(Some(broken.path()), env(&[]), &[]));
    assert!(text.contains("line 2"), "{text}");
    let text = refused(load(Some(Path::new("/no/such/file")), env(&[]), &[]));
    assert!(text.contains("/no/such/file"), "{text}");
}

#[test]
fn unknown_variables_are_warned_about_and_nothing_else_is() {
    let env = env(&[("PODL_MAX_PEARS", "3"), ("PODL_PASSWORD", "x"), ("OTHER", "y")]);
    let (config, warnings) = load(None, env, &[]).unwrap();
    assert_eq!(config.max_peers, 50);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("PODL_MAX_PEARS"));
}

#[test]
fn the_template_is_a_configuration() {
    let text = template(&[("chain", "testnet".into())]);
    for key in KEYS {
        assert!(text.contains(&format!("{} = ", key.name)), "{}", key.name);
    }
    let chosen = file(&text);
    let (config, _) = load(Some(chosen.path()), env(&[]), &[flag("data_dir", "/d")]).unwrap();
    let expected = NodeConfig { chain: "testnet".into(), data_dir: "/d".into(), ..NodeConfig::default() };
    assert_eq!(config, expected);
    // With the comment signs of values removed every default reads back as itself.
    let plain: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if KEYS.iter().any(|k| rest.starts_with(&format!("{} = ", k.name)) && !k.default.is_empty()) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let all = file(&plain);
    assert_eq!(load(Some(all.path()), env(&[]), &[flag("data_dir", "/d")]).unwrap().0, expected);
}

#[test]
fn pay_of_a_pool_is_set_by_its_keys() {
    use podl_pool::ledger::PayScheme;
    let scheme = |flags: &[(String, &'static str, Vec<String>)]| load(None, env(&[]), flags).map(|c| c.0.pay_scheme());
    assert_eq!(scheme(&[]).unwrap(), PayScheme::default());
    let window = scheme(&[flag("pool_window", "8"), flag("pool_finder_basis_points", "0")]).unwrap();
    assert_eq!(window, PayScheme::Pplns { window: 8, finder_basis_points: 0 });
    assert_eq!(scheme(&[flag("pool_pay", "performance")]).unwrap(), PayScheme::Performance);
    for (key, value, words) in [
        ("pool_pay", "solo", "expected pplns or performance"),
        ("pool_window", "0", "at least 1"),
        ("pool_window", "65", "at most 64"),
        ("pool_finder_basis_points", "1001", "at most 1000"),
        ("pool_fee_basis_points", "10001", "at most 10000"),
    ] {
        let error = scheme(&[flag(key, value)]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_strategy_of_a_pool_is_set_by_its_name() {
    use podl_nas::search::StrategyKind;
    assert_eq!(NodeConfig::default().pool_strategy, StrategyKind::Predictor);
    for kind in StrategyKind::ALL {
        let (config, warnings) = load(None, env(&[("PODL_POOL_STRATEGY", kind.name())]), &[]).unwrap();
        assert_eq!((config.pool_strategy, warnings.len()), (kind, 0));
    }
    let text = refused(load(None, env(&[("PODL_POOL_STRATEGY", "hillclimb")]), &[]));
    assert!(text.contains("expected predictor, hill-climb"), "{text}");
}

#[test]
fn the_partition_of_a_pool_is_set_by_its_name() {
    use podl_pool::partition::Scheme;
    assert_eq!(NodeConfig::default().pool_partition, Scheme::Whole);
    for scheme in Scheme::ALL {
        let (config, warnings) = load(None, env(&[("PODL_POOL_PARTITION", scheme.name())]), &[]).unwrap();
        assert_eq!((config.pool_partition, warnings.len()), (scheme, 0));
    }
    let text = refused(load(None, env(&[("PODL_POOL_PARTITION", "papertable")]), &[]));
    assert!(text.contains("pool_partition = \"papertable\" from the environment variable PODL_POOL_PARTITION:"));
    assert!(text.contains("expected one of whole, disjoint, algorithm1, paper-table"), "{text}");
}
