//! Attacks networks of any `podl` program, an older one too, without building it:
//! `cargo run --release -p podl-attacker --example attack -- PROGRAM FOLDER NAME...|all`

#![allow(clippy::print_stdout, reason = "a command-line tool")]

use std::path::PathBuf;

use anyhow::Context;
use podl_attacker::{Attack, run};

#[tokio::main(worker_threads = 1)]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().context("which program?")?);
    let folder = PathBuf::from(args.next().context("which folder?")?);
    let names: Vec<String> = args.collect();
    let attacks = match &names[..] {
        [all] if all == "all" => Attack::ALL.to_vec(),
        names => names.iter().map(|n| n.parse()).collect::<Result<_, String>>().map_err(anyhow::Error::msg)?,
    };
    for attack in attacks {
        println!("{}", line(&run(attack, &program, folder.join(attack.name())).await?)?);
    }
    Ok(())
}

fn line(verdict: &podl_testnet::process::Verdict) -> anyhow::Result<String> {
    Ok(serde_json::to_string(verdict)?)
}
