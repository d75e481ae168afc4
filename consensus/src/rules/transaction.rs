//! Rules of transactions that need no state: sizes, fees, forms.

use std::collections::BTreeSet;

use podl_chain_spec::{Amount, ChainSpec};

use crate::codec;
use crate::ranking::difficulty;
use crate::signed::BadSignature;
use crate::types::{BatchPayment, PublishTask, SignedTransaction, Transaction, TransactionKind};
use crate::workload::{NetworkError, WorkloadError, WorkloadVersions};

/// Longest name of a task, in characters.
const NAME_LIMIT: usize = 64;

/// Why a transaction can be in no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Too large.
    #[error("the transaction has {got} bytes, at most {limit} are allowed")]
    Bytes {
        /// Encoded bytes.
        got: usize,
        /// `limits.transaction_bytes`.
        limit: u32,
    },
    /// The fee does not pay for the bytes.
    #[error("the fee is {got}, {bytes} bytes cost at least {need} (smallest units)", got = .got.0, need = .need.0)]
    Fee {
        /// Offered.
        got: Amount,
        /// Encoded bytes.
        bytes: usize,
        /// `money.fee_per_byte` for each.
        need: Amount,
    },
    /// In the format, but not in force.
    #[error("{0} is not active in this version of the protocol")]
    NotActive(&'static str),
    /// A payment of nothing.
    #[error("a payment of nothing")]
    NoAmount,
    /// A batch of no payments, or of too many.
    #[error("the batch has {got} payments, 1 to {limit} are allowed")]
    BatchLength {
        /// Payments.
        got: usize,
        /// `limits.batch_payments`.
        limit: u32,
    },
    /// The payments are not sorted by account, or pay one twice.
    #[error("the payments of the batch are not sorted by account and distinct")]
    BatchOrder,
    /// A task that cannot be published.
    #[error("the task cannot be published: {0}")]
    Publish(#[from] PublishError),
}

/// Why a transaction may wait nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionFormError {
    /// It can be in no block.
    #[error(transparent)]
    Form(#[from] FormError),
    /// It is not signed by its sender.
    #[error("the signature is not the sender's")]
    Signature(#[from] BadSignature),
}

/// Why a task cannot be published, whatever the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// People and logs must be able to read the name. ASCII only: what else is printable changes with Unicode.
    #[error("the name must be 1 to {NAME_LIMIT} printable ASCII characters, without spaces at its ends")]
    Name,
    /// The workload does not validate.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The space has no networks for these images.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Other versions than the chain's.
    #[error("the workload is for versions {got:?}, the chain runs {expected:?}")]
    Versions {
        /// The task's.
        got: WorkloadVersions,
        /// The chain's.
        expected: WorkloadVersions,
    },
    /// A number is out of its range.
    #[error("{what} must be {low} to {high}, got {got}")]
    Range {
        /// Which.
        what: &'static str,
        /// Given.
        got: u64,
        /// Least.
        low: u64,
        /// Most.
        high: u64,
    },
    /// Two rounds share a key, a sealed or a plain shard: the second would be known before its interval.
    #[error("round {round} shares its shard or its key with an earlier one")]
    SharedShard {
        /// The later of the two.
        round: usize,
    },
    /// Rewards and bond do not fit an amount.
    #[error("the rewards and the bond overflow")]
    Overflow,
}

fn range(what: &'static str, got: u64, low: u64, high: u64) -> Result<(), PublishError> {
    if (low..=high).contains(&got) { Ok(()) } else { Err(PublishError::Range { what, got, low, high }) }
}

/// Checks everything about a transaction that needs neither state nor signature.
///
/// # Errors
/// [`FormError`] for the first rule that it breaks.
pub fn check_form(spec: &ChainSpec, transaction: &SignedTransaction) -> Result<(), FormError> {
    let bytes = codec::encode(transaction).len();
    let limit = spec.limits.transaction_bytes;
    if bytes as u64 > u64::from(limit) {
        return Err(FormError::Bytes { got: bytes, limit });
    }
    let got = transaction.message.fee;
    let need = least_fee(spec, bytes);
    if got < need {
        return Err(FormError::Fee { got, bytes, need });
    }
    match &transaction.message.kind {
        TransactionKind::Transfer(payment) if payment.amount == Amount::ZERO => Err(FormError::NoAmount),
        TransactionKind::Transfer(_) | TransactionKind::Cancel(_) => Ok(()),
        TransactionKind::BatchPayout(batch) => check_batch(spec, batch),
        TransactionKind::Publish(task) => Ok(check_publish(spec, task)?),
        TransactionKind::Evidence(_) => Err(FormError::NotActive("evidence")),
        TransactionKind::LeaveSeat => Err(FormError::NotActive("leaving a seat")),
    }
}

/// Bytes of a transaction beyond those of its message with a fee of one byte: the longest fee, and the signature.
const FEE_AND_SIGNATURE_BYTES: usize = 10 + 64;

/// Least fee that covers a message once it is signed, whatever the fee's own length.
pub fn least_fee_of(spec: &ChainSpec, message: &Transaction) -> Amount {
    least_fee(spec, codec::encode(message).len().saturating_add(FEE_AND_SIGNATURE_BYTES))
}

/// Least fee of a transaction of so many encoded bytes.
pub fn least_fee(spec: &ChainSpec, bytes: usize) -> Amount {
    spec.money.fee_per_byte.checked_mul(bytes as u64).unwrap_or(Amount(u64::MAX))
}

fn check_batch(spec: &ChainSpec, batch: &BatchPayment) -> Result<(), FormError> {
    let (got, limit) = (batch.payments.len(), spec.limits.batch_payments);
    if got == 0 || got as u64 > u64::from(limit) {
        return Err(FormError::BatchLength { got, limit });
    }
    if batch.payments.iter().any(|payment| payment.amount == Amount::ZERO) {
        return Err(FormError::NoAmount);
    }
    let sorted = batch.payments.is_sorted_by(|a, b| a.to < b.to);
    if sorted { Ok(()) } else { Err(FormError::BatchOrder) }
}

/// Rewards of all rounds and the bond: what publishing takes from the publisher besides the fee.
pub fn publish_cost(task: &PublishTask) -> Option<Amount> {
    task.reward.checked_mul(task.shards.len() as u64)?.checked_add(task.bond)
}

/// Checks a task as far as the specification alone decides.
///
/// # Errors
/// [`PublishError`].
pub fn check_publish(spec: &ChainSpec, task: &PublishTask) -> Result<(), PublishError> {
    let printable = task.name.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    let plain = printable && task.name.trim_ascii() == task.name;
    if !plain || !(1..=NAME_LIMIT).contains(&task.name.len()) {
        return Err(PublishError::Name);
    }
    let caps = &spec.caps;
    task.workload.validate(caps)?;
    let expected = WorkloadVersions {
        engine: spec.versions.engine,
        cost_model: spec.versions.cost_model,
        generator: spec.versions.generator,
    };
    if task.workload.versions != expected {
        return Err(PublishError::Versions { got: task.workload.versions, expected });
    }
    range("the number of rounds", task.shards.len() as u64, 1, caps.rounds.into())?;
    range("the bytes of the training data", task.data.bytes, 1, caps.data_bytes)?;
    range("the number of training images", task.train_images.into(), 1, u32::MAX.into())?;
    range("the number of epochs", task.epochs.into(), 1, u16::MAX.into())?;
    range("the gain", task.min_gain.into(), 0, task.workload.shard_images.into())?;
    if let Some(baseline) = &task.baseline {
        range("the bytes of the baseline", baseline.bytes, 1, caps.artefact_bytes.into())?;
    }
    check_shards(spec, task)?;
    range("the reward", task.reward.0, spec.money.min_reward.0, u64::MAX)?;
    range("the bond", task.bond.0, task.reward.0, u64::MAX)?;
    publish_cost(task).ok_or(PublishError::Overflow)?;
    difficulty(spec, task)?;
    Ok(())
}

fn check_shards(spec: &ChainSpec, task: &PublishTask) -> Result<(), PublishError> {
    let mut seen = BTreeSet::new();
    for (round, shard) in (1usize..).zip(&task.shards) {
        range("the bytes of a shard", shard.sealed.bytes, 1, spec.caps.shard_bytes.into())?;
        let fresh = seen.insert(shard.key_hash) & seen.insert(shard.sealed.root) & seen.insert(shard.plain_root);
        if !fresh {
            return Err(PublishError::SharedShard { round });
        }
    }
    Ok(())
}
