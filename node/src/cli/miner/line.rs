//! The line that says how mining goes.

use podl_pool::drivers::MinerStatus;
use podl_pool::protocol::Standing;
use podl_pool::types::Class;
use serde::Serialize;

use super::super::output::grouped;

/// What `podl miner join --json` prints, a line whenever something changes.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(super) struct Line {
    /// Which child, from 1, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    child: Option<usize>,
    stage: String,
    class: Option<&'static str>,
    speed_macs_s: u64,
    strong_from_macs_s: u64,
    lease_permille: Option<u64>,
    pool_best_permille: Option<u16>,
    window_macs: u64,
    share_ppm: u64,
    accepted: u32,
    refused: u32,
    refusal: Option<String>,
}

impl Line {
    /// The line of a miner's status.
    pub(super) fn new(status: &MinerStatus, child: Option<usize>) -> Self {
        let standing = status.standing.as_ref();
        let number = |read: fn(&Standing) -> u64| standing.map_or(0, read);
        let share = |s: &Standing| u128::from(s.window_macs) * 1_000_000 / u128::from(s.pool_window_macs.max(1));
        Self {
            child,
            stage: format!("{:?}", status.stage).to_lowercase(),
            class: standing.map(|s| if s.class == Class::Strong { "strong" } else { "weak" }),
            speed_macs_s: number(|s| s.speed_macs_s),
            strong_from_macs_s: number(|s| s.strong_from_macs_s),
            lease_permille: status.progress_permille.map(|p| p.min(1000)),
            pool_best_permille: status.best.as_ref().map(|best| best.permille),
            window_macs: number(|s| s.window_macs),
            share_ppm: standing.map_or(0, |s| u64::try_from(share(s)).unwrap_or(0)),
            accepted: standing.map_or(0, |s| s.accepted),
            refused: standing.map_or(0, |s| s.rejected),
            refusal: status.refusal.map(|r| r.to_string()),
        }
    }

    /// The line without what changes all the time.
    pub(super) fn gist(&self) -> Self {
        Self {
            lease_permille: None,
            speed_macs_s: 0,
            window_macs: 0,
            share_ppm: 0,
            strong_from_macs_s: 0,
            ..self.clone()
        }
    }

    pub(super) fn text(&self) -> String {
        let mut parts: Vec<String> = self.child.map(|child| format!("child {child}")).into_iter().collect();
        parts.push(self.stage.clone());
        parts.extend(self.class.map(|class| {
            let (speed, border) =
                (grouped(self.speed_macs_s / 1_000_000), grouped(self.strong_from_macs_s / 1_000_000));
            format!("{class} ({speed} MMAC/s, strong from {border})")
        }));
        parts.extend(self.lease_permille.map(|p| format!("lease {} %", p / 10)));
        parts.extend(self.pool_best_permille.map(|p| format!("pool's best {}.{:03}", p / 1000, p % 1000)));
        if self.window_macs > 0 {
            parts.push(format!(
                "{}.{} % of the pool's work in the pay window",
                self.share_ppm / 10_000,
                self.share_ppm / 1000 % 10
            ));
        }
        parts.push(format!("{} results taken, {} refused", self.accepted, self.refused));
        parts.join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use podl_pool::miner::Stage;

    use super::*;

    #[test]
    fn the_line_says_what_a_miner_wants_to_know() {
        let standing = Standing {
            class: Class::Weak,
            speed_macs_s: 1_234_000_000,
            strong_from_macs_s: 2_000_000_000,
            window_macs: 25,
            pool_window_macs: 100,
            accepted: 7,
            rejected: 1,
            ..Standing::default()
        };
        let status = MinerStatus {
            stage: Stage::Joined,
            progress_permille: Some(430),
            standing: Some(standing),
            best: None,
            refusal: None,
        };
        let line = Line::new(&status, None);
        assert_eq!(
            line.text(),
            "joined · weak (1,234 MMAC/s, strong from 2,000) · lease 43 % · 25.0 % of the pool's work in the pay window · 7 results taken, 1 refused"
        );
        let later = Line::new(&MinerStatus { progress_permille: Some(900), ..status }, None);
        assert!(later != line && later.gist() == line.gist());
    }
}
