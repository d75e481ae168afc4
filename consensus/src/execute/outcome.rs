//! Second and third stage: what became of the round, and the fees of commitments.

use podl_chain_spec::{AccountId, Amount, ChainSpec};

use super::{BlockInput, Event, Execution, unlock_height};
use crate::rules::commitments::counted;
use crate::state::{Draft, MoneyError, StateError, TaskPhase, TaskStatus, Winner};
use crate::types::{BlobRef, ClosingSet, Opening, Outcome, TaskId};

/// What a spent round burns of its reward.
pub fn burn_share(spec: &ChainSpec, reward: Amount) -> Amount {
    spec.money.burn_min.max(reward.percent(spec.money.burn_percent)).min(reward)
}

fn minus(from: Amount, amount: Amount) -> Result<Amount, MoneyError> {
    from.checked_sub(amount).ok_or(MoneyError::Insufficient { got: from, need: amount })
}

fn plus(a: Amount, b: Amount) -> Result<Amount, MoneyError> {
    a.checked_add(b).ok_or(MoneyError::Overflow)
}

fn status_of(draft: &Draft<'_>, task: &TaskId) -> Result<TaskStatus, StateError> {
    let missing = || StateError::Corrupt { key: task.to_string(), reason: "the task is missing".into() };
    draft.task_status(task)?.ok_or_else(missing)
}

/// Ends a task: unspent rewards and the bond go back to the publisher, but for a void task, whose bond is burned.
pub(super) fn close_task(
    draft: &mut Draft<'_>,
    events: &mut Vec<Event>,
    task: TaskId,
    phase: TaskPhase,
) -> Result<(), StateError> {
    let mut status = status_of(draft, &task)?;
    let mut returned = std::mem::take(&mut status.escrow);
    let bond = std::mem::take(&mut status.bond);
    if phase == TaskPhase::Void {
        draft.burn(bond)?;
    } else {
        returned = plus(returned, bond)?;
    }
    status.phase = phase;
    status.ready.clear();
    let publisher = status.publisher;
    draft.put_status(task, status)?;
    draft.credit(&publisher, returned)?;
    events.push(Event::TaskClosed { task, phase, returned });
    Ok(())
}

impl Execution<'_> {
    pub(super) fn outcome(&mut self, input: &BlockInput<'_>) -> Result<(), StateError> {
        let interval = input.interval;
        let task = (!interval.is_filler()).then_some(interval.task);
        match (&input.body.outcome, task) {
            (Outcome::Scored { closings, opening, .. }, task) => {
                match task {
                    Some(task) => self.win_round(task, opening)?,
                    None => self.win_filler()?,
                }
                self.draft.meta.winners.push((self.draft.height(), self.producer));
                self.charge_commitments(closings, interval.seats.len(), interval.commitment_fee)
            }
            (Outcome::Void { .. }, Some(task)) => close_task(&mut self.draft, &mut self.events, task, TaskPhase::Void),
            (Outcome::Idle { key: Some(_) }, Some(task)) => self.spend_unwon(task),
            (Outcome::Idle { .. } | Outcome::Void { .. }, _) => Ok(()),
        }
    }

    /// Takes one round's reward out of the escrow and burns its share; the rest is for the caller to give away.
    fn spend_round(&mut self, task: TaskId, winner: Option<Winner>) -> Result<(Amount, Amount), StateError> {
        let mut status = status_of(&self.draft, &task)?;
        let reward = status.reward;
        status.escrow = minus(status.escrow, reward)?;
        let burn = burn_share(self.spec, reward);
        self.draft.burn(burn)?;
        let round = status.next_round;
        status.next_round = round.checked_add(1).ok_or(MoneyError::Overflow)?;
        status.last_round = self.draft.height();
        status.phase = TaskPhase::Active;
        status.last_winner = winner.or(status.last_winner);
        let done = status.next_round > status.rounds;
        self.draft.put_status(task, status)?;
        self.events.push(Event::RoundSpent { task, round, winner: winner.map(|winner| winner.owner) });
        if done {
            close_task(&mut self.draft, &mut self.events, task, TaskPhase::Done)?;
        }
        Ok((minus(reward, burn)?, burn))
    }

    fn win_round(&mut self, task: TaskId, opening: &Opening) -> Result<(), StateError> {
        let model = BlobRef { root: opening.model_root, bytes: opening.artefact_bytes.into() };
        let round = status_of(&self.draft, &task)?.next_round;
        let winner = Winner { model, owner: self.producer, round, correct: opening.correct };
        let (rest, burn) = self.spend_round(task, Some(winner))?;
        let subsidy = burn.percent(self.spec.money.subsidy_percent);
        self.draft.mint(subsidy)?;
        self.reward(plus(rest, subsidy)?)
    }

    fn win_filler(&mut self) -> Result<(), StateError> {
        let subsidy = self.spec.money.filler_subsidy;
        self.draft.mint(subsidy)?;
        self.reward(subsidy)
    }

    fn reward(&mut self, amount: Amount) -> Result<(), StateError> {
        let until = unlock_height(self.spec, self.draft.height());
        self.draft.lock(&self.producer, until, amount)?;
        self.events.push(Event::Rewarded { account: self.producer, amount });
        Ok(())
    }

    /// The key is out, nobody won: the round is spent, and what is not burned of its reward goes back.
    fn spend_unwon(&mut self, task: TaskId) -> Result<(), StateError> {
        let publisher = status_of(&self.draft, &task)?.publisher;
        let (rest, _) = self.spend_round(task, None)?;
        self.draft.credit(&publisher, rest)
    }

    /// Burns the fees of counted commitments. Owners that cannot pay pay what they can: a seat listed them in good
    /// faith, and the block must not fail for it.
    fn charge_commitments(&mut self, closings: &ClosingSet, seats: usize, fee: Amount) -> Result<(), StateError> {
        let mut burned = Amount::ZERO;
        for (owner, commitments) in counted(closings, seats) {
            let due = fee.checked_mul(commitments).ok_or(MoneyError::Overflow)?;
            burned = plus(burned, self.charge(&owner, due)?)?;
        }
        if burned > Amount::ZERO {
            self.draft.burn(burned)?;
            self.events.push(Event::CommitmentFees { burned });
        }
        Ok(())
    }

    fn charge(&mut self, owner: &AccountId, due: Amount) -> Result<Amount, StateError> {
        let mut account = self.draft.account(owner)?;
        let taken = due.min(account.balance);
        if taken > Amount::ZERO {
            account.debit(taken)?;
            self.draft.put_account(*owner, account);
        }
        Ok(taken)
    }
}
