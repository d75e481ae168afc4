//! The shipped specifications load, and every kind of slip in one is refused with the field's name.

use podl_chain_spec::{ChainSpec, SpecError};

#[test]
fn shipped_specs_load_and_differ() {
    let dev = ChainSpec::load("dev").unwrap();
    let testnet = ChainSpec::load("testnet").unwrap();
    assert_ne!(dev.genesis_hash(), testnet.genesis_hash());
}

#[test]
fn genesis_hash_pins_the_shipped_specs() {
    // A change here splits every running network: bump the chain's message when it is meant.
    let hashes: Vec<String> =
        ["dev", "testnet"].iter().map(|n| ChainSpec::load(n).unwrap().genesis_hash().to_string()).collect();
    assert_eq!(hashes, include_str!("genesis-hashes.txt").lines().collect::<Vec<_>>());
}

#[test]
fn bootnodes_do_not_change_the_chain_but_every_consensus_field_does() {
    let spec = ChainSpec::load("dev").unwrap();
    let mut other = spec.clone();
    other.network.bootnodes.push("/ip4/10.0.0.1/tcp/1".into());
    assert_eq!(spec.genesis_hash(), other.genesis_hash());
    other.phases.train_ms += 1;
    assert_ne!(spec.genesis_hash(), other.genesis_hash());
    let mut other = spec.clone();
    other.genesis.accounts[0].balance.0 += 1;
    assert_ne!(spec.genesis_hash(), other.genesis_hash());
}

fn refused(from: &str, to: &str) -> String {
    let text = include_str!("../specs/dev.toml");
    assert!(text.contains(from), "{from} is not in the spec");
    ChainSpec::parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn slips_are_named() {
    for (from, to, field) in [
        ("name = \"dev\"", "name = \"Dev chain\"", "name"),
        ("train_ms = 9000", "train_ms = 0", "phases.train_ms"),
        ("train_ms = 9000", "train_ms = -1", "train_ms"),
        ("list_cap = 64", "list_cap = 0", "limits.list_cap"),
        ("block_bytes = 2097152", "block_bytes = 1000", "limits.block_bytes"),
        ("window = 7", "window = 3", "seats.min_seats"),
        ("subsidy_percent = 50", "subsidy_percent = 51", "money.subsidy_percent"),
        ("min_reward = 8000000", "min_reward = 7999999", "money.min_reward"),
        ("balance = 1000000000 }", "balance = 9223372036854775807 }", "genesis.accounts"),
        ("kernel = 11", "kernel = 12", "caps.kernel"),
        ("score_macs = 68719476736", "score_macs = 137438953472", "caps.score_macs"),
        ("kernel = 11", "kernal = 11", "kernal"),
        ("shard_images = 400", "shard_images = 1000000", "filler.shard_images"),
        ("podl19d4hzzgl0", "podl19d4hzzglq", "mistyped"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(field), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_seat_twice_is_refused() {
    let mut spec = ChainSpec::load("dev").unwrap();
    spec.genesis.seats[1] = spec.genesis.seats[0];
    assert!(matches!(spec.check(), Err(SpecError::Field { field: "genesis.seats", .. })));
}

#[test]
fn a_missing_file_is_named() {
    assert!(ChainSpec::load("/nowhere/spec.toml").unwrap_err().to_string().contains("/nowhere/spec.toml"));
}

#[test]
fn toml_round_trips() {
    let spec = ChainSpec::load("testnet").unwrap();
    assert_eq!(ChainSpec::parse(&toml::to_string(&spec).unwrap()).unwrap(), spec);
}
