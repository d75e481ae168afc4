//! Last stage: transactions. Each is checked whole before it changes anything.

use std::collections::BTreeMap;

use podl_chain_spec::{Amount, ChainSpec};

use super::Event;
use super::outcome::close_task;
use crate::ranking::difficulty;
use crate::rules::TransactionError;
use crate::rules::transaction::publish_cost;
use crate::state::{Account, Draft, TaskPhase, TaskSpec, TaskStatus};
use crate::types::{Payment, PublishTask, SignedTransaction, TaskId, Transaction, TransactionKind};

/// What a transaction takes from its sender: payments or escrow and bond, and the fee. `None` on overflow.
pub fn cost(transaction: &Transaction) -> Option<Amount> {
    let spent = match &transaction.kind {
        TransactionKind::Transfer(payment) => payment.amount,
        TransactionKind::BatchPayout(batch) => total(&batch.payments)?,
        TransactionKind::Publish(task) => publish_cost(task)?,
        TransactionKind::Cancel(_) | TransactionKind::Evidence(_) | TransactionKind::LeaveSeat => Amount::ZERO,
    };
    spent.checked_add(transaction.fee)
}

fn total(payments: &[Payment]) -> Option<Amount> {
    payments.iter().try_fold(Amount::ZERO, |sum, payment| sum.checked_add(payment.amount))
}

/// Takes nonce and [`cost`] from a copy of the sender's account.
fn charge(draft: &Draft<'_>, transaction: &Transaction) -> Result<Account, TransactionError> {
    let sender = transaction.sender;
    let mut account = draft.account(&sender)?;
    if transaction.nonce != account.nonce {
        return Err(TransactionError::Nonce { sender, got: transaction.nonce, expected: account.nonce });
    }
    account.nonce = account.nonce.checked_add(1).ok_or(TransactionError::Overflow)?;
    let need = cost(transaction).ok_or(TransactionError::Overflow)?;
    let got = account.balance;
    account.balance = got.checked_sub(need).ok_or(TransactionError::Funds { sender, got, need })?;
    Ok(account)
}

/// Executes a transaction whose form was checked. On an error the draft is as it was.
pub(super) fn apply(
    spec: &ChainSpec,
    draft: &mut Draft<'_>,
    events: &mut Vec<Event>,
    transaction: &SignedTransaction,
) -> Result<(), TransactionError> {
    let message = &transaction.message;
    match &message.kind {
        TransactionKind::Transfer(payment) => pay(draft, message, std::slice::from_ref(payment))?,
        TransactionKind::BatchPayout(batch) => pay(draft, message, &batch.payments)?,
        TransactionKind::Publish(task) => publish(spec, draft, events, message, task)?,
        TransactionKind::Cancel(task) => cancel(draft, events, message, *task)?,
        TransactionKind::Evidence(_) => return Err(TransactionError::NotActive("evidence")),
        TransactionKind::LeaveSeat => return Err(TransactionError::NotActive("leaving a seat")),
    }
    events.push(Event::Transaction { id: message.id() });
    Ok(())
}

fn pay(draft: &mut Draft<'_>, message: &Transaction, payments: &[Payment]) -> Result<(), TransactionError> {
    let sender = charge(draft, message)?;
    let mut changed = BTreeMap::from([(message.sender, sender)]);
    for payment in payments {
        let mut account = match changed.remove(&payment.to) {
            Some(account) => account,
            None => draft.account(&payment.to)?,
        };
        account.credit(payment.amount)?;
        changed.insert(payment.to, account);
    }
    changed.into_iter().for_each(|(id, account)| draft.put_account(id, account));
    Ok(())
}

fn publish(
    spec: &ChainSpec,
    draft: &mut Draft<'_>,
    events: &mut Vec<Event>,
    message: &Transaction,
    task: &PublishTask,
) -> Result<(), TransactionError> {
    let (got, limit) = (draft.live_tasks()?.len(), spec.tasks.live_tasks);
    if got as u64 >= u64::from(limit) {
        return Err(TransactionError::LiveTasks { got, limit });
    }
    // The id covers sender and nonce, so no two publish transactions share it.
    let id = message.task_id().ok_or(TransactionError::NotActive("this kind of task"))?;
    let sender = charge(draft, message)?;
    let rounds = u32::try_from(task.shards.len()).map_err(|_| TransactionError::Overflow)?;
    let status = TaskStatus {
        publisher: message.sender,
        phase: TaskPhase::Pending,
        rounds,
        next_round: 1,
        reward: task.reward,
        escrow: task.reward.checked_mul(rounds.into()).ok_or(TransactionError::Overflow)?,
        bond: task.bond,
        difficulty: difficulty(spec, task)?,
        published: draft.height(),
        opened: 0,
        last_round: 0,
        ready: Vec::new(),
        last_winner: None,
    };
    draft.insert_task(id, TaskSpec { publisher: message.sender, task: task.clone() }, status)?;
    draft.put_account(message.sender, sender);
    events.push(Event::TaskPublished { task: id });
    Ok(())
}

fn cancel(
    draft: &mut Draft<'_>,
    events: &mut Vec<Event>,
    message: &Transaction,
    task: TaskId,
) -> Result<(), TransactionError> {
    let status = draft.task_status(&task)?.ok_or(TransactionError::UnknownTask(task))?;
    if status.publisher != message.sender {
        return Err(TransactionError::NotPublisher { task });
    }
    if !status.phase.is_live() {
        return Err(TransactionError::Closed { task, phase: status.phase });
    }
    let sender = charge(draft, message)?;
    draft.put_account(message.sender, sender);
    Ok(close_task(draft, events, task, TaskPhase::Cancelled)?)
}
