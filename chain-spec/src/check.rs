//! Loading and checking of specifications. A bad one is refused with the field and the reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{Amount, Caps, ChainSpec};

/// Why a specification was refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file could not be read.
    #[error("cannot read the chain specification {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or a field is missing, unknown or of the wrong type.
    #[error("the chain specification is not valid: {0}")]
    Parse(#[from] toml::de::Error),
    /// A field has a value that cannot work.
    #[error("chain specification: {field}: {reason}")]
    Field {
        /// Path of the field in the file.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

const DEV: &str = include_str!("../specs/dev.toml");
const TESTNET: &str = include_str!("../specs/testnet.toml");

/// Longest that any one phase may be configured: a day.
const PHASE_LIMIT_MS: u64 = 86_400_000;
/// Hard bounds on caps, whatever a spec says: beyond these the formats and the arithmetic were not examined.
const HARD_CAPS: Caps = Caps {
    conv_layers: 16,
    kernel: 11,
    filters: 512,
    stride: 8,
    pool: 4,
    total_bits: 14,
    input_side: 64,
    input_channels: 4,
    classes: 256,
    dense_width: 1024,
    artefact_bytes: 64 << 20,
    shard_bytes: 256 << 20,
    data_bytes: 4 << 30,
    score_macs: 1 << 50,
    rounds: 1024,
};

impl ChainSpec {
    /// The named built-in specification (`dev`, `testnet`), or else the file of that path.
    ///
    /// # Errors
    /// [`SpecError`] when the file cannot be read or the specification cannot work.
    pub fn load(name_or_path: &str) -> Result<Self, SpecError> {
        match name_or_path {
            "dev" => Self::parse(DEV),
            "testnet" => Self::parse(TESTNET),
            path => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| SpecError::Read { path: Path::new(path).into(), source })?;
                Self::parse(&text)
            }
        }
    }

    /// A specification from TOML text.
    ///
    /// # Errors
    /// [`SpecError::Parse`] or [`SpecError::Field`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let spec: Self = toml::from_str(text)?;
        spec.check()?;
        Ok(spec)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`SpecError::Field`] for the first field that cannot work.
    pub fn check(&self) -> Result<(), SpecError> {
        check_name(&self.name)?;
        check_phases(self)?;
        check_limits(self)?;
        check_seats(self)?;
        check_money(self)?;
        check_tasks(self)?;
        check_caps(&self.caps)?;
        check_score(self)?;
        check_filler(self)?;
        check_genesis(self)
    }
}

fn ensure(holds: bool, field: &'static str, reason: impl FnOnce() -> String) -> Result<(), SpecError> {
    if holds { Ok(()) } else { Err(SpecError::Field { field, reason: reason() }) }
}

fn range(value: u64, low: u64, high: u64, field: &'static str) -> Result<(), SpecError> {
    ensure((low..=high).contains(&value), field, || format!("must be {low} to {high}, got {value}"))
}

fn check_name(name: &str) -> Result<(), SpecError> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ensure(plain && (1..=32).contains(&name.len()), "name", || {
        format!("must be 1 to 32 characters of a-z, 0-9 and -, got {name:?}")
    })
}

fn check_phases(spec: &ChainSpec) -> Result<(), SpecError> {
    let p = &spec.phases;
    range(p.init_ms, 1, PHASE_LIMIT_MS, "phases.init_ms")?;
    range(p.train_ms, 1, PHASE_LIMIT_MS, "phases.train_ms")?;
    range(p.close_ms, 1, PHASE_LIMIT_MS, "phases.close_ms")?;
    range(p.release_ms, 1, PHASE_LIMIT_MS, "phases.release_ms")?;
    range(p.reveal_ms, 1, PHASE_LIMIT_MS, "phases.reveal_ms")?;
    range(p.validate_ms, 1, PHASE_LIMIT_MS, "phases.validate_ms")?;
    range(p.view_ms, 1, PHASE_LIMIT_MS, "phases.view_ms")?;
    range(p.ahead_ms, 1, PHASE_LIMIT_MS, "phases.ahead_ms")
}

fn check_limits(spec: &ChainSpec) -> Result<(), SpecError> {
    let l = &spec.limits;
    range(l.list_cap.into(), 1, 4096, "limits.list_cap")?;
    range(l.commitments_per_owner.into(), 1, 16, "limits.commitments_per_owner")?;
    range(l.transaction_bytes.into(), 1024, 1 << 20, "limits.transaction_bytes")?;
    range(l.block_transactions.into(), 1, 65_536, "limits.block_transactions")?;
    range(l.batch_payments.into(), 1, 4096, "limits.batch_payments")?;
    range(l.retain_blocks, 1, u64::MAX, "limits.retain_blocks")?;
    // A block must at least hold full closings of every seat, its votes twice, and one transaction.
    let commitments = u64::from(l.list_cap) * u64::from(spec.seats.window) * 200;
    let least = commitments + u64::from(spec.seats.window) * 2048 + u64::from(l.transaction_bytes);
    range(l.block_bytes.into(), least, 64 << 20, "limits.block_bytes")
}

fn check_seats(spec: &ChainSpec) -> Result<(), SpecError> {
    let s = &spec.seats;
    range(s.window.into(), 1, 64, "seats.window")?;
    range(s.min_seats.into(), 1, s.window.into(), "seats.min_seats")?;
    range(s.absent_out, 4, 1 << 32, "seats.absent_out")?;
    range(s.unbond_intervals, 1, 1 << 32, "seats.unbond_intervals")
}

fn check_money(spec: &ChainSpec) -> Result<(), SpecError> {
    let m = &spec.money;
    range(m.burn_percent.into(), 1, 100, "money.burn_percent")?;
    range(m.subsidy_percent.into(), 0, 50, "money.subsidy_percent")?;
    range(m.burn_min.0, 1, m.min_reward.0, "money.burn_min")?;
    let least = m.filler_subsidy.checked_mul(4).unwrap_or(Amount(u64::MAX));
    ensure(m.min_reward >= least, "money.min_reward", || {
        format!("must be at least four filler subsidies ({}), got {}", least.0, m.min_reward.0)
    })?;
    range(m.vote_pay.0, 0, m.filler_subsidy.0.max(8), "money.vote_pay")
}

fn check_tasks(spec: &ChainSpec) -> Result<(), SpecError> {
    let t = &spec.tasks;
    range(t.aging_intervals, 1, u64::MAX, "tasks.aging_intervals")?;
    range(t.open_timeout, 1, 1 << 32, "tasks.open_timeout")?;
    range(t.live_tasks.into(), 1, 65_536, "tasks.live_tasks")?;
    range(t.byte_weight, 1, 1 << 32, "tasks.byte_weight")
}

fn check_caps(caps: &Caps) -> Result<(), SpecError> {
    let hard = &HARD_CAPS;
    range(caps.conv_layers.into(), 1, hard.conv_layers.into(), "caps.conv_layers")?;
    range(caps.kernel.into(), 1, hard.kernel.into(), "caps.kernel")?;
    range(caps.filters.into(), 1, hard.filters.into(), "caps.filters")?;
    range(caps.stride.into(), 1, hard.stride.into(), "caps.stride")?;
    range(caps.pool.into(), 1, hard.pool.into(), "caps.pool")?;
    range(caps.total_bits.into(), 1, hard.total_bits.into(), "caps.total_bits")?;
    range(caps.input_side.into(), 1, hard.input_side.into(), "caps.input_side")?;
    range(caps.input_channels.into(), 1, hard.input_channels.into(), "caps.input_channels")?;
    range(caps.classes.into(), 2, hard.classes.into(), "caps.classes")?;
    range(caps.dense_width.into(), 1, hard.dense_width.into(), "caps.dense_width")?;
    range(caps.artefact_bytes.into(), 1024, hard.artefact_bytes.into(), "caps.artefact_bytes")?;
    range(caps.shard_bytes.into(), 1024, hard.shard_bytes.into(), "caps.shard_bytes")?;
    range(caps.data_bytes, 1024, hard.data_bytes, "caps.data_bytes")?;
    range(caps.score_macs, 1 << 20, hard.score_macs, "caps.score_macs")?;
    range(caps.rounds.into(), 1, hard.rounds.into(), "caps.rounds")
}

/// Multiply-accumulates that the integer engine does in a millisecond on one core of a present-day machine, about
/// (docs/costs.md).
const SCORED_MACS_PER_MS: u64 = 30_000_000;

/// What a candidate may cost must be affordable in the time there is to check it.
fn check_score(spec: &ChainSpec) -> Result<(), SpecError> {
    let most = spec.phases.validate_ms.saturating_mul(SCORED_MACS_PER_MS);
    ensure(spec.caps.score_macs <= most, "caps.score_macs", || {
        format!("{} cannot be scored within phases.validate_ms; at most {most}", spec.caps.score_macs)
    })
}

fn check_filler(spec: &ChainSpec) -> Result<(), SpecError> {
    let f = &spec.filler;
    range(f.conv_layers.into(), 1, spec.caps.conv_layers.into(), "filler.conv_layers")?;
    range(f.shard_images.into(), 1, 1 << 20, "filler.shard_images")?;
    // 32x32x3 images with a label each, plus a small header.
    range(u64::from(f.shard_images) * 3074 + 64, 1, spec.caps.shard_bytes.into(), "filler.shard_images")?;
    range(f.lut, 1, 1 << 40, "filler.lut")?;
    range(f.throughput, 1, 100_000_000, "filler.throughput")
}

fn check_genesis(spec: &ChainSpec) -> Result<(), SpecError> {
    let g = &spec.genesis;
    range(g.seats.len() as u64, spec.seats.min_seats.into(), spec.seats.window.into(), "genesis.seats")?;
    range(g.message.len() as u64, 0, 256, "genesis.message")?;
    let seats: BTreeSet<_> = g.seats.iter().collect();
    ensure(seats.len() == g.seats.len(), "genesis.seats", || "one key holds two seats".into())?;
    let accounts: BTreeSet<_> = g.accounts.iter().map(|a| a.account).collect();
    ensure(accounts.len() == g.accounts.len(), "genesis.accounts", || "one account is listed twice".into())?;
    let bonds = spec.seats.seat_bond.checked_mul(g.seats.len() as u64).unwrap_or(Amount(u64::MAX));
    let supply = g.accounts.iter().try_fold(bonds, |sum, a| sum.checked_add(a.balance));
    // Half of the range is left free, so that minting can never reach its end within the life of a chain.
    ensure(supply.is_some_and(|s| s.0 < u64::MAX / 2), "genesis.accounts", || "the balances overflow".into())
}
