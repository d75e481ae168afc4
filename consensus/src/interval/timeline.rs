//! The times of one interval on one node's monotonic clock (the table of docs/protocol.md, section 3).

use podl_chain_spec::Phases;

/// When what happened, and from that when what is due. All in milliseconds of the node's own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    /// t0: the node took the parent as base. None while it only hears of the interval.
    pub started: Option<u64>,
    /// The node closed (an observer: would have closed).
    pub closed: Option<u64>,
    /// C: closings of a majority known.
    pub majority: Option<u64>,
    /// K: those and, but for filler, the key.
    pub opened: Option<u64>,
    /// Votes of more than a third of the seats at the interval's height or above are known: an honest seat among them
    /// found that it was time.
    pub pulled: Option<u64>,
    /// X: the fallback began. Once begun it stays, though candidates that arrive later are still preferred.
    pub fallback: Option<u64>,
}

impl Timeline {
    /// D: when a seat closes at the latest.
    pub fn close_due(&self, phases: &Phases) -> Option<u64> {
        Some(self.started? + phases.init_ms + phases.train_ms)
    }

    /// Until when closings of a majority must be there: counted from the node's own closing if that was early.
    pub fn majority_due(&self, phases: &Phases) -> Option<u64> {
        let due = self.close_due(phases)?;
        Some(self.closed.map_or(due, |closed| closed.min(due)) + phases.close_ms)
    }

    /// Until when the key must be there.
    pub fn key_due(&self, phases: &Phases) -> Option<u64> {
        Some(self.majority? + phases.release_ms)
    }

    /// Until when candidates are taken.
    pub fn reveal_due(&self, phases: &Phases) -> Option<u64> {
        Some(self.opened? + phases.reveal_ms)
    }

    /// V: when a seat votes at the latest, if it verified a candidate.
    pub fn vote_due(&self, phases: &Phases) -> Option<u64> {
        Some(self.reveal_due(phases)? + phases.validate_ms)
    }

    /// When a seat in doubt votes at the latest: half a view after V, so that the votes of others can still settle it.
    pub fn doubt_due(&self, phases: &Phases) -> Option<u64> {
        Some(self.vote_due(phases)? + phases.view_ms / 2)
    }

    /// When a seat that others left behind votes as they did.
    pub fn pull_due(&self, phases: &Phases) -> Option<u64> {
        Some(self.pulled? + phases.view_ms)
    }

    /// When view `view` of the fallback begins.
    pub fn view_due(&self, phases: &Phases, view: u32) -> Option<u64> {
        Some(self.fallback?.saturating_add(phases.view_ms.saturating_mul(view.into())))
    }

    /// When a seat that holds the key may vote for a void block.
    pub fn void_due(&self, phases: &Phases) -> Option<u64> {
        self.view_due(phases, 2)
    }

    /// When the first two rows of X apply: no majority of closings, or no key, in time. The third, no valid candidate
    /// in time, depends on the candidates.
    pub fn missing_due(&self, phases: &Phases, needs_key: bool) -> Option<u64> {
        match (self.majority, self.opened) {
            (_, Some(_)) => None,
            (None, None) => self.majority_due(phases),
            (Some(_), None) if needs_key => self.key_due(phases),
            (Some(_), None) => None,
        }
    }

    /// All times at which something may become due without any message, whether past or not.
    pub fn deadlines(&self, phases: &Phases, needs_key: bool) -> impl Iterator<Item = u64> {
        [
            self.close_due(phases).filter(|_| self.closed.is_none()),
            self.missing_due(phases, needs_key).filter(|_| self.fallback.is_none()),
            self.reveal_due(phases),
            self.vote_due(phases),
            self.doubt_due(phases),
            self.void_due(phases),
            self.pull_due(phases),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: Phases = Phases {
        init_ms: 10,
        train_ms: 100,
        close_ms: 40,
        release_ms: 50,
        reveal_ms: 20,
        validate_ms: 30,
        view_ms: 25,
        ahead_ms: 1000,
    };

    #[test]
    fn the_rows_of_the_table() {
        let mut line = Timeline { started: Some(1000), ..Timeline::default() };
        assert_eq!(line.close_due(&PHASES), Some(1110));
        assert_eq!(line.missing_due(&PHASES, true), Some(1150));
        line.closed = Some(1080);
        assert_eq!(line.missing_due(&PHASES, true), Some(1120), "from its own closing if that was before D");
        line.closed = Some(1300);
        assert_eq!(line.missing_due(&PHASES, true), Some(1150), "a late closing does not move it");
        line.majority = Some(1400);
        assert_eq!(line.missing_due(&PHASES, true), Some(1450));
        assert_eq!(line.missing_due(&PHASES, false), None);
        line.opened = Some(1420);
        assert_eq!(line.missing_due(&PHASES, true), None);
        assert_eq!((line.reveal_due(&PHASES), line.vote_due(&PHASES)), (Some(1440), Some(1470)));
        assert_eq!(line.doubt_due(&PHASES), Some(1482));
        line.fallback = Some(1470);
        assert_eq!((line.view_due(&PHASES, 3), line.void_due(&PHASES)), (Some(1545), Some(1520)));
        assert_eq!(line.view_due(&PHASES, u32::MAX), Some(1470 + 25 * u64::from(u32::MAX)));
    }
}
