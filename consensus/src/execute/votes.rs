//! First stage: votes and certificate.

use std::collections::BTreeSet;

use podl_chain_spec::{AccountId, Amount};

use super::{BlockInput, Event, Execution};
use crate::finality;
use crate::state::{Checkpoint, majority};
use crate::state::{StateError, TaskPhase};
use crate::types::{SignedVote, TaskId};

/// Of each vote's pay, the producer that carried it gets one part in so many.
const PRODUCER_PART: u64 = 8;

impl Execution<'_> {
    pub(super) fn votes(&mut self, input: &BlockInput<'_>) -> Result<(), StateError> {
        let body = input.body;
        let voters: Vec<AccountId> = body.votes.iter().map(|vote| vote.message.seat).collect();
        let certificate = body.certificate.as_ref().map(|certificate| {
            let checkpoint = Checkpoint { height: certificate.height, block: certificate.block };
            (checkpoint, certificate.votes.iter().map(|vote| vote.message.seat).collect::<Vec<_>>())
        });
        let late = certificate.as_ref().map(|(checkpoint, voters)| (*checkpoint, voters.as_slice()));
        let change = finality::apply(&mut self.draft.meta, input.interval.parent, &voters, late);
        self.events.extend(change.justified.map(|block| Event::Justified { block }));
        self.events.extend(change.finalised.map(|block| Event::Finalised { block }));

        let late = certificate.iter().flat_map(|(_, voters)| voters);
        self.mark_presence(voters.iter().chain(late).copied().collect());
        self.change_seats(change.newly_final)?;
        self.flag_ready(&body.votes)?;
        self.pay_votes(&voters)?;
        self.expire_tasks()
    }

    /// Notes for every seat that voted that it is there.
    fn mark_presence(&mut self, voters: BTreeSet<AccountId>) {
        let height = self.draft.height();
        let seats = self.draft.meta.seats.current.iter_mut();
        seats.filter(|seat| voters.contains(&seat.account)).for_each(|seat| seat.last_vote = height);
    }

    /// Collects ready flags of pending tasks; a task that a majority of today's seats flagged opens. Flags of other
    /// tasks mean nothing: the voter could not know what this branch would do to the task.
    fn flag_ready(&mut self, votes: &[SignedVote]) -> Result<(), StateError> {
        let flags = votes.iter().flat_map(|vote| vote.message.ready.iter().map(|task| (*task, vote.message.seat)));
        let flagged: BTreeSet<(TaskId, AccountId)> = flags.collect();
        for (task, seat) in flagged {
            let Some(mut status) = self.draft.task_status(&task)? else { continue };
            let Err(place) = status.ready.binary_search(&seat) else { continue };
            if status.phase != TaskPhase::Pending || !self.draft.meta.seats.is_seat(&seat) {
                continue;
            }
            status.ready.insert(place, seat);
            let seats = &self.draft.meta.seats;
            let ready = status.ready.iter().filter(|account| seats.is_seat(account)).count();
            if ready >= majority(seats.current.len()) {
                status.phase = TaskPhase::Open;
                status.opened = self.draft.height();
                status.ready.clear();
                self.events.push(Event::TaskOpened { task });
            }
            self.draft.put_status(task, status)?;
        }
        Ok(())
    }

    /// New money for every vote carried, so that leaving votes out costs the producer.
    fn pay_votes(&mut self, voters: &[AccountId]) -> Result<(), StateError> {
        let pay = self.spec.money.vote_pay;
        let producer_share = Amount(pay.0 / PRODUCER_PART);
        let seat_share = Amount(pay.0 - producer_share.0);
        for voter in voters {
            self.draft.mint(pay)?;
            self.draft.credit(voter, seat_share)?;
            self.draft.credit(&self.producer, producer_share)?;
        }
        Ok(())
    }

    /// Closes tasks that were not opened in time.
    fn expire_tasks(&mut self) -> Result<(), StateError> {
        let timeout = self.spec.tasks.open_timeout;
        for task in self.draft.live_tasks()? {
            let Some(status) = self.draft.task_status(&task)? else { continue };
            let waited = self.draft.height().saturating_sub(status.published);
            if status.phase == TaskPhase::Pending && waited >= timeout {
                super::outcome::close_task(&mut self.draft, &mut self.events, task, TaskPhase::Cancelled)?;
            }
        }
        Ok(())
    }
}
