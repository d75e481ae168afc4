//! One attack from beginning to end: a network, a calm stretch, the attack, what came of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use podl_chain_spec::{Amount, ChainSpec};
use podl_testnet::process::{LocalNetwork, Measured, Plan, Verdict, Watch};

use crate::attack::Attack;
use crate::attacker::Attacker;

/// Processes of the network.
const NODES: usize = 4;
/// Blocks before the attack: the first, and two intervals to compare with.
const CALM: u64 = 3;
/// Blocks that must come after the attack.
const AFTER: u64 = 2;
/// A chain that brings no block for so long has stopped. The rules allow a block a third of it, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs an attack on a fresh network of the dev chain, with keys, chains and logs below `dir`.
///
/// # Errors
/// When the network cannot be started, or brings no block before anybody attacks.
pub async fn run(attack: Attack, program: &Path, dir: PathBuf) -> anyhow::Result<Verdict> {
    let spec = ChainSpec::load("dev")?;
    let nodes = NODES - usize::from(attack.is_seats());
    let plan =
        Plan { program: program.into(), chain: "dev".into(), nodes, miners: 1, budgets: Vec::new(), dir, task: None };
    let mut network = LocalNetwork::start(plan).await?;
    if attack.is_seats() {
        // The attacker is the fourth seat; the fourth process follows.
        network.add_observer("observer").await?;
    }
    let mut watch = Watch::start(&network).await?;
    ensure!(watch.until(&mut network, CALM, PATIENCE).await, "no block {CALM} before anybody attacked");
    let mut attacker = Attacker::new(spec.clone(), &network).await?;
    watch.note_links(&network).await;
    let (calm, since) = (watch.height(), Instant::now());
    let acted = watch.during(&mut network, attack.act(&mut attacker)).await;
    if let (Err(error), 0) = (&acted, attacker.done) {
        bail!("{} was not tried: {error:#}", attack.name());
    }
    let goal = watch.height() + AFTER;
    let went_on = watch.until(&mut network, goal, PATIENCE).await;
    let measured = watch.sum_up(&mut network, calm, since).await;
    let agreed = if went_on && measured.alive == NODES { watch.agree(&network).await } else { Ok(()) };
    let attacker_cost = attacker.cost().await;
    let broken = broken(&measured, went_on, agreed.err());
    // A process that ended before cannot be stopped cleanly.
    let stopped = network.stop().err().filter(|_| measured.alive == NODES);
    let broken: Vec<String> = broken.into_iter().chain(stopped.map(|error| error.to_string())).collect();
    let held = broken.is_empty();
    let done = acted.unwrap_or_else(|error| format!("{} done, then {error:#}", attacker.done));
    Ok(Verdict {
        attack: attack.name(),
        held,
        attacker_cost,
        honest_loss: loss(&spec, &measured, held),
        note: note(&done, &measured, &broken),
        measured: Some(measured),
    })
}

/// What did not hold.
fn broken(measured: &Measured, went_on: bool, differ: Option<anyhow::Error>) -> Vec<String> {
    let dead = NODES.saturating_sub(measured.alive);
    [
        (dead > 0).then(|| format!("{dead} of {NODES} processes ended")),
        (measured.panicked > 0).then(|| format!("threads of {} nodes panicked", measured.panicked)),
        (!went_on && measured.alive > 0)
            .then(|| format!("the chain stopped: no block for {} s", measured.longest_ms / 1000)),
        (measured.honest_bans > 0)
            .then(|| format!("{} honest peers were banned by honest nodes", measured.honest_bans)),
        (measured.blocks > 0 && measured.idle == measured.blocks && measured.calm_idle < CALM)
            .then(|| "no block had a model any more".into()),
        differ.map(|error| format!("{error:#}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rewards of blocks without a model beyond those of the calm; unknown where the chain stopped.
fn loss(spec: &ChainSpec, measured: &Measured, held: bool) -> Option<Amount> {
    let lost = measured.idle.saturating_sub(measured.calm_idle);
    held.then(|| spec.money.filler_subsidy.checked_mul(lost)).flatten()
}

fn note(done: &str, measured: &Measured, broken: &[String]) -> String {
    let fared = format!(
        "{} blocks in {} s, {} late, {} idle, slowest {:.1} s after {:.1} s in the calm",
        measured.blocks,
        measured.seconds,
        measured.late,
        measured.idle,
        seconds(measured.longest_ms),
        seconds(measured.calm_ms),
    );
    if broken.is_empty() { format!("{done}: {fared}") } else { format!("{}. {done}: {fared}", broken.join("; ")) }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Measured {
        Measured { alive: NODES, blocks: 4, seconds: 50, calm_ms: 11_000, longest_ms: 11_500, ..Measured::default() }
    }

    #[test]
    fn what_does_not_hold_is_said() {
        assert!(broken(&calm(), true, None).is_empty());
        let bad = Measured { alive: 1, panicked: 1, honest_bans: 2, ..calm() };
        assert_eq!(broken(&bad, false, Some(anyhow::anyhow!("differ"))).len(), 5);
        let barren = Measured { idle: 4, ..calm() };
        assert_eq!(broken(&barren, true, None), ["no block had a model any more"]);
        assert!(broken(&Measured { calm_idle: CALM, ..barren }, true, None).is_empty(), "nor had one before");
    }

    #[test]
    fn a_verdict_keeps_its_fields_and_counts_more() {
        let verdict = Verdict {
            attack: "range-overflow",
            held: true,
            attacker_cost: None,
            honest_loss: Some(Amount::ZERO),
            note: note("done", &calm(), &[]),
            measured: Some(calm()),
        };
        let line = serde_json::to_value(&verdict).unwrap();
        for field in ["attack", "held", "attacker_cost", "honest_loss", "note", "alive", "blocks", "late"] {
            assert!(line.get(field).is_some(), "{field}");
        }
        let bare = serde_json::to_value(Verdict { measured: None, ..verdict }).unwrap();
        assert_eq!(bare.as_object().unwrap().len(), 5);
    }

    #[test]
    fn models_that_were_not_scored_are_a_loss() {
        let spec = ChainSpec::load("dev").unwrap();
        let one = Measured { idle: 2, calm_idle: 1, ..calm() };
        assert_eq!(loss(&spec, &one, true), Some(spec.money.filler_subsidy));
        assert_eq!(loss(&spec, &one, false), None);
    }
}
