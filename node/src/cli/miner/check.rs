//! `podl miner check`: tests machine and connection before joining.

use std::time::{Duration, Instant};

use clap::Args;
use podl_chain_spec::AccountId;
use podl_consensus::workload::{InputShape, Network, Space};
use podl_nas::search::{SearchBox, starting_points};
use podl_nas::train::{available_bytes, kernels, training_bytes};
use podl_pool::calibration;
use podl_pool::drivers::PoolTransport;
use podl_pool::protocol::{self, Reply, Request};
use serde::Serialize;

use super::super::output::grouped;
use super::{MinerArgs, Out, runtime};
use crate::pool_miner::{PoolLink, PoolUrl};

/// How long the speed test takes, about.
const SPEED_TEST_MS: u64 = 2_000;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The pool [default: only the machine is tested].
    #[arg(value_name = "POOL-URL")]
    pool: Option<PoolUrl>,
    #[command(flatten)]
    miner: MinerArgs,
}

/// One test of `podl miner check`.
#[derive(Debug, Serialize)]
struct Finding {
    test: &'static str,
    ok: bool,
    found: String,
    /// What to do when it is not well.
    remedy: Option<String>,
}

pub(super) fn run(args: &CheckArgs, out: &Out) -> anyhow::Result<()> {
    let mut findings = vec![cores(args), kernel()];
    findings.extend([speed(args), memory(args), disk(args)]);
    if let Some(pool) = &args.pool {
        findings.extend(pool_findings(args, pool)?);
    }
    for finding in &findings {
        out.record(finding, || {
            let remedy = finding.remedy.as_ref().map_or(String::new(), |r| format!(": {r}"));
            format!("{}  {:<10} {}{remedy}", if finding.ok { "ok  " } else { "FAIL" }, finding.test, finding.found)
        })?;
    }
    let failed: Vec<&str> = findings.iter().filter(|f| !f.ok).map(|f| f.test).collect();
    anyhow::ensure!(failed.is_empty(), "not ready to mine: {}; see above", failed.join(", "));
    Ok(())
}

fn found(test: &'static str, ok: bool, found: String, remedy: &str) -> Finding {
    Finding { test, ok, found, remedy: (!ok).then(|| remedy.to_owned()) }
}

fn cores(args: &CheckArgs) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.miner.threads();
    let text = format!("{threads} training threads on {cores} cores");
    found("cores", threads <= cores, text, "more threads than cores train slower; lower --threads")
}

fn kernel() -> Finding {
    let text = format!("training kernels use {}", kernels::simd::Isa::detect().name());
    found("kernels", true, text, "")
}

fn speed(args: &CheckArgs) -> Finding {
    let one = calibration::CalibrationJob { seed: [7; 32], steps: 8 };
    let measure = |job: &calibration::CalibrationJob| {
        let start = Instant::now();
        let answered = calibration::answer(job, args.miner.threads()).is_some();
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        (answered, calibration::job_macs(job).saturating_mul(1000) / ms)
    };
    let (_, first) = measure(&one);
    let (answered, macs_s) = measure(&calibration::job_for([8; 32], first, SPEED_TEST_MS));
    let text = format!("{} million multiply-accumulates a second in the integer engine", grouped(macs_s / 1_000_000));
    found("speed", answered, text, "the integer engine failed; check for faulty memory")
}

/// Memory of the largest network that miners begin with on the paper's space.
fn memory(args: &CheckArgs) -> Finding {
    let space = Space::full(6);
    let starts = SearchBox::from_space(&space).map(|search_box| starting_points(&search_box)).unwrap_or_default();
    let input = InputShape::CIFAR;
    let networks = starts.iter().filter_map(|start| Network::new(&start.architecture, input, 10, space.dense).ok());
    let need = networks.map(|network| training_bytes(&network, 32, args.miner.threads())).max().unwrap_or(0) >> 20;
    let have = available_bytes().map(|bytes| bytes >> 20);
    let text = match have {
        Some(have) => format!("about {need} MiB for training and the data set, {have} MiB are free"),
        None => format!("about {need} MiB for training and the data set"),
    };
    found("memory", have.is_none_or(|have| have > need * 2), text, "close other programs")
}

fn disk(args: &CheckArgs) -> Finding {
    let folder = args.miner.folder();
    let made = std::fs::create_dir_all(&folder);
    let free = podl_storage::free_disk_bytes(&folder).unwrap_or(0) >> 20;
    let text = format!("{} MiB free in {}", grouped(free), folder.display());
    found("disk", made.is_ok() && free >= 1024, text, "choose another --data-dir with 1 GiB or more")
}

fn pool_findings(args: &CheckArgs, pool: &PoolUrl) -> anyhow::Result<Vec<Finding>> {
    let runtime = runtime()?;
    // Under a name of its own: a hello of the miner's would say whom to pay, and its folder may be in use.
    let folder = args.miner.folder().join("check");
    let opened = runtime.block_on(PoolLink::open(pool.clone(), args.miner.chain.as_deref(), &folder, false));
    let link = match opened {
        Ok(link) => link,
        Err(error) => {
            return Ok(vec![Finding { test: "connection", ok: false, found: error.to_string(), remedy: None }]);
        }
    };
    let text = format!("connected on {}", link.spec.name);
    let mut findings = vec![found("connection", true, text, "")];
    let transport = runtime.block_on(async { link.transport() });
    findings.push(greeting(&transport));
    runtime.block_on(link.close());
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(findings)
}

/// Says hello and good-bye.
fn greeting(transport: &dyn PoolTransport) -> Finding {
    let account = AccountId([0; 32]);
    let hello = Request::Hello { version: protocol::VERSION, account, agent: format!("podl/{} check", crate::VERSION) };
    let start = Instant::now();
    let answer = transport.request(protocol::encode(&hello)).map_err(|e| e.to_string());
    let ms = start.elapsed().as_millis();
    let reply = answer.and_then(|bytes| protocol::decode_reply(&bytes).map_err(|e| e.to_string()));
    // The pool forgets a miner that never worked.
    let _ = transport.request(protocol::encode(&Request::Leave));
    match reply {
        Ok(Reply::Welcome { fee_basis_points, .. }) => {
            let fee = format!("{}.{:02} %", fee_basis_points / 100, fee_basis_points % 100);
            found("pool", true, format!("welcomed in {ms} ms; it keeps {fee} of each reward"), "")
        }
        Ok(Reply::Refused { refusal, .. }) => {
            Finding { test: "pool", ok: false, found: refusal.to_string(), remedy: None }
        }
        Ok(other) => found("pool", false, format!("an answer that does not fit: {other:?}"), "update podl"),
        Err(reason) => found("pool", false, reason, "ask the pool's operator whether --pool-manager is on"),
    }
}
