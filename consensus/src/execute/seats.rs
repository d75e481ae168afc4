//! Seats won and lost when blocks become final.

use std::collections::BTreeSet;
use std::ops::Range;

use podl_chain_spec::AccountId;

use super::{Event, Execution, unlock_height};
use crate::finality;
use crate::state::{MoneyError, Seat, StateError};
use crate::types::Height;

impl Execution<'_> {
    /// Gives the producers of scored blocks that became final their seats, in the order of their blocks.
    pub(super) fn change_seats(&mut self, newly_final: Range<Height>) -> Result<(), StateError> {
        let winners = std::mem::take(&mut self.draft.meta.winners);
        let (winners, waiting) = winners.into_iter().partition(|(height, _)| newly_final.contains(height));
        self.draft.meta.winners = waiting;
        let winners: Vec<(Height, AccountId)> = winners;
        if winners.is_empty() {
            return Ok(());
        }
        let mut seats = self.draft.meta.seats.current.clone();
        for (height, account) in winners {
            self.seat_winner(&mut seats, height, account)?;
        }
        let accounts = |seats: &[Seat]| seats.iter().map(|seat| seat.account).collect::<BTreeSet<_>>();
        if accounts(&seats) == accounts(&self.draft.meta.seats.current) {
            self.draft.meta.seats.current = seats;
        } else {
            let height = self.draft.height();
            finality::replace_seats(&mut self.draft.meta, height, seats);
        }
        Ok(())
    }

    fn seat_winner(&mut self, seats: &mut Vec<Seat>, since: Height, account: AccountId) -> Result<(), StateError> {
        if let Some(place) = seats.iter().position(|seat| seat.account == account) {
            let seat = seats.remove(place);
            seats.push(Seat { since, ..seat });
            self.events.push(Event::SeatRenewed { account });
            return Ok(());
        }
        let bond = self.spec.seats.seat_bond;
        let mut winner = self.draft.account(&account)?;
        match winner.take_bond(bond) {
            Ok(()) => self.draft.put_account(account, winner),
            Err(MoneyError::Insufficient { .. }) => {
                self.events.push(Event::SeatUnfunded { account });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        seats.push(Seat { account, bond, since, last_vote: self.draft.height() });
        self.events.push(Event::SeatTaken { account });
        if seats.len() > usize::from(self.spec.seats.window) {
            let oldest = seats.remove(0);
            let until = unlock_height(self.spec, self.draft.height());
            self.draft.lock(&oldest.account, until, oldest.bond)?;
            self.events.push(Event::SeatLeft { account: oldest.account });
        }
        Ok(())
    }
}
