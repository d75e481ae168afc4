//! The line that says how mining goes.

use podl_pool::drivers::{MinerStatus, OfflineStatus};
use podl_pool::miner::Stage;
use podl_pool::protocol::{Refusal, Standing};
use podl_pool::types::{AuditTally, BackupTally, Class};
use serde::Serialize;

use super::super::output::grouped;
use super::outlook::{band, podl};

/// How long the remedy of a refusal is shown.
const REMEDY_MS: u64 = 60_000;

/// What `podl miner join --json` prints, a line whenever something changes. What the pool has not told yet is 0 or null.
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
    lease_eta_s: Option<u64>,
    pool_best_permille: Option<u16>,
    window_macs: u64,
    window_intervals: u16,
    share_ppm: u64,
    kept_back_macs: u64,
    #[serde(flatten)]
    pay: PayPart,
    accepted: u32,
    refused: u32,
    audits_passed: u32,
    audits_failed: u32,
    #[serde(flatten)]
    backups: BackupPart,
    /// The last refusal, until there is work again.
    refusal: Option<String>,
    /// All since the start, by code.
    refusals: Vec<RefusalPart>,
    offline: Option<OfflinePart>,
}

/// Money, in the smallest unit, and what more of it hangs on.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
struct PayPart {
    pending_units: u64,
    paid_units: u64,
    /// What a block won now would pay.
    next_payment_units: Option<u64>,
    /// Between what and what so many intervals as the window has will likely pay ([`band`]).
    window_pay_low_units: Option<u64>,
    window_pay_high_units: Option<u64>,
    /// Luck: of the last intervals with work, how many the pool won.
    luck_won_intervals: u32,
    luck_worked_intervals: u32,
}

/// Networks that changed hands.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
struct BackupPart {
    own_networks_taken_over: u32,
    own_networks_backed_up: u32,
    networks_taken_over: u32,
    networks_backed_up: u32,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
struct RefusalPart {
    code: Refusal,
    count: u32,
    reason: String,
    remedy: String,
    #[serde(skip)]
    is_recent: bool,
}

/// Since when and why the miner is without its pool.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
struct OfflinePart {
    for_s: u64,
    reason: String,
    /// Until the next try; null while the pool is being tried.
    retry_s: Option<u64>,
}

impl Line {
    /// The line of a miner's status.
    pub(super) fn new(status: &MinerStatus, child: Option<usize>) -> Self {
        let unknown = Standing::default();
        let standing = status.standing.as_ref().unwrap_or(&unknown);
        let share = u128::from(standing.window_macs) * 1_000_000 / u128::from(standing.pool_window_macs.max(1));
        let AuditTally { passed, failed } = standing.audits;
        Self {
            child,
            stage: stage(status),
            class: status.standing.as_ref().map(|s| if s.class == Class::Strong { "strong" } else { "weak" }),
            speed_macs_s: standing.speed_macs_s,
            strong_from_macs_s: standing.strong_from_macs_s,
            lease_permille: status.lease.map(|lease| lease.done_permille),
            lease_eta_s: status.lease.map(|lease| lease.eta_ms.div_ceil(1000)),
            pool_best_permille: status.best_permille,
            window_macs: standing.window_macs,
            window_intervals: standing.window_intervals,
            share_ppm: u64::try_from(share).unwrap_or(0),
            kept_back_macs: standing.kept_back_macs,
            pay: PayPart::new(standing),
            accepted: standing.accepted,
            refused: standing.rejected,
            audits_passed: passed,
            audits_failed: failed,
            backups: BackupPart::new(standing.backups),
            refusal: status.refusal.map(|r| r.to_string()),
            refusals: refusals(status),
            offline: status.offline.as_ref().map(OfflinePart::new),
        }
    }

    /// The line without what changes all the time.
    pub(super) fn gist(&self) -> Self {
        let told = self.refusals.iter().filter(|refusal| !refusal.code.is_routine());
        Self {
            lease_permille: None,
            lease_eta_s: None,
            speed_macs_s: 0,
            window_macs: 0,
            share_ppm: 0,
            strong_from_macs_s: 0,
            pay: PayPart {
                next_payment_units: None,
                window_pay_low_units: None,
                window_pay_high_units: None,
                ..self.pay.clone()
            },
            refusals: told.map(|refusal| RefusalPart { is_recent: false, ..refusal.clone() }).collect(),
            offline: self.offline.clone().map(|offline| OfflinePart { for_s: 0, retry_s: None, ..offline }),
            ..self.clone()
        }
    }

    /// For people: what is zero or as it should be is left out.
    pub(super) fn text(&self) -> String {
        let parts = [
            self.child.map(|child| format!("child {child}")),
            Some(self.activity()),
            self.class.map(|class| self.speed(class)),
            self.pool_best_permille.map(|p| format!("best {}.{:03}", p / 1000, p % 1000)),
            self.work(),
            self.pay.text(),
            self.pay.luck(),
            Some(self.results()),
            self.backups.text(),
            self.refused(),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }

    /// What it does, or why it does nothing.
    fn activity(&self) -> String {
        match (&self.offline, self.lease_permille, self.lease_eta_s) {
            (Some(offline), ..) => offline.text(),
            (None, Some(permille), Some(eta_s)) if self.stage == "joined" => {
                format!("lease {} %, {} left", permille / 10, duration(eta_s))
            }
            _ if self.stage == "joined" => "waiting for work".into(),
            _ => self.stage.clone(),
        }
    }

    fn speed(&self, class: &str) -> String {
        let border = (class == "weak").then(|| format!(" (strong from {})", speed(self.strong_from_macs_s)));
        format!("{class} {}{}", speed(self.speed_macs_s), border.unwrap_or_default())
    }

    /// Work that is paid, and work that may be.
    fn work(&self) -> Option<String> {
        let share = (self.window_macs > 0)
            .then(|| format!("share {}.{} %", self.share_ppm / 10_000, self.share_ppm / 1000 % 10));
        let kept = (self.kept_back_macs > 0)
            .then(|| format!("{} MMAC kept back until an audit", grouped(self.kept_back_macs.div_ceil(1_000_000))));
        join([share, kept])
    }

    fn results(&self) -> String {
        let some = |count: u32, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let parts = [
            Some(format!("{} results", self.accepted)),
            some(self.refused, "refused"),
            some(self.audits_passed, "audits"),
            some(self.audits_failed, "AUDITS FAILED"),
        ];
        join(parts).unwrap_or_default()
    }

    /// Refusals that say something of this miner; what to do about those of the last minute.
    fn refused(&self) -> Option<String> {
        let told = self.refusals.iter().filter(|refusal| !refusal.code.is_routine());
        join(told.map(|RefusalPart { count, reason, remedy, is_recent, .. }| {
            Some(if *is_recent { format!("{count}x {reason}: {remedy}") } else { format!("{count}x {reason}") })
        }))
        .map(|all| format!("refused {all}"))
    }
}

impl PayPart {
    fn new(standing: &Standing) -> Self {
        let (low, high) = band(standing).unzip();
        Self {
            pending_units: standing.pending.0,
            paid_units: standing.paid.0,
            next_payment_units: standing.next_payment.map(|amount| amount.0),
            window_pay_low_units: low,
            window_pay_high_units: high,
            luck_won_intervals: standing.luck.won,
            luck_worked_intervals: standing.luck.intervals,
        }
    }

    /// Money; in brackets what the intervals of a window will likely bring.
    fn text(&self) -> Option<String> {
        let some = |what: &str, units: u64| (units > 0).then(|| format!("{what} {}", podl(units)));
        let next = match (self.next_payment_units, self.window_pay_low_units, self.window_pay_high_units) {
            (Some(next @ 1..), Some(low), Some(high)) => {
                Some(format!("next {} ({}-{})", podl(next), podl(low), podl(high)))
            }
            _ => None,
        };
        let money = join([some("paid", self.paid_units), some("pending", self.pending_units), next]);
        money.map(|money| format!("PODL {money}"))
    }

    fn luck(&self) -> Option<String> {
        let worked = self.luck_worked_intervals;
        (worked > 0).then(|| format!("won {}/{worked}", self.luck_won_intervals))
    }
}

impl BackupPart {
    fn new(tally: BackupTally) -> Self {
        Self {
            own_networks_taken_over: tally.own_taken_over,
            own_networks_backed_up: tally.own_backed_up,
            networks_taken_over: tally.taken_over,
            networks_backed_up: tally.backed_up,
        }
    }

    fn text(&self) -> Option<String> {
        let both = |taken_over: u32, backed_up: u32| {
            let some = |count: u32, what: &str| (count > 0).then(|| format!("{what} {count}"));
            join([some(taken_over, "took over"), some(backed_up, "backed up")])
        };
        let lost = both(self.own_networks_taken_over, self.own_networks_backed_up);
        let helped = both(self.networks_taken_over, self.networks_backed_up);
        let lost = lost.map(|lost| format!("others {lost} of its networks"));
        let parts: Vec<String> = lost.into_iter().chain(helped.map(|own| format!("{own} of others'"))).collect();
        (!parts.is_empty()).then(|| parts.join(" · "))
    }
}

impl OfflinePart {
    fn new(offline: &OfflineStatus) -> Self {
        Self {
            for_s: offline.for_ms / 1000,
            reason: offline.reason.clone(),
            retry_s: offline.retry_ms.map(|ms| ms.div_ceil(1000)),
        }
    }

    fn text(&self) -> String {
        let next = self.retry_s.map_or("trying now".into(), |s| format!("next try in {}", duration(s)));
        format!("offline for {}: {}; {next}", duration(self.for_s), self.reason)
    }
}

/// A miner that tries its pool anew is as offline as before.
fn stage(status: &MinerStatus) -> String {
    let stage = if status.offline.is_some() && status.stage == Stage::Joining { Stage::Offline } else { status.stage };
    format!("{stage:?}").to_lowercase()
}

fn refusals(status: &MinerStatus) -> Vec<RefusalPart> {
    let part = |(code, told): (&Refusal, &podl_pool::drivers::RefusalStatus)| {
        let (reason, remedy) = code.reason_and_remedy();
        RefusalPart { code: *code, count: told.count, reason, remedy, is_recent: told.ago_ms < REMEDY_MS }
    };
    status.refusals.iter().map(part).collect()
}

/// Those parts that there are, with commas between them.
fn join(parts: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A speed as people read it.
fn speed(macs_s: u64) -> String {
    match macs_s {
        0..1_000_000_000 => format!("{} MMAC/s", macs_s / 1_000_000),
        1_000_000_000..10_000_000_000 => {
            format!("{}.{} GMAC/s", macs_s / 1_000_000_000, macs_s / 100_000_000 % 10)
        }
        _ => format!("{} GMAC/s", grouped(macs_s / 1_000_000_000)),
    }
}

/// Seconds as people read them.
fn duration(s: u64) -> String {
    match s {
        0..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use podl_chain_spec::Amount;
    use podl_pool::drivers::{LeaseStatus, RefusalStatus};
    use podl_pool::ledger::Luck;

    use super::*;

    /// A miner for whom all goes well.
    fn calm() -> MinerStatus {
        let standing = Standing {
            class: Class::Strong,
            speed_macs_s: 21_234_000_000,
            strong_from_macs_s: 12_000_000_000,
            window_macs: 25,
            pool_window_macs: 100,
            window_intervals: 4,
            pending: Amount(1_250_000),
            paid: Amount(30_500_000),
            next_payment: Some(Amount(510_000)),
            luck: Luck { won: 31, intervals: 62 },
            accepted: 127,
            audits: AuditTally { passed: 12, failed: 0 },
            ..Standing::default()
        };
        MinerStatus {
            stage: Stage::Joined,
            lease: Some(LeaseStatus { done_permille: 430, eta_ms: 11_200 }),
            standing: Some(standing),
            best_permille: None,
            refusal: None,
            refusals: BTreeMap::new(),
            offline: None,
        }
    }

    fn told(change: impl FnOnce(&mut Standing)) -> String {
        let mut status = calm();
        change(status.standing.as_mut().unwrap());
        Line::new(&status, None).text()
    }

    #[test]
    fn a_calm_line_is_short() {
        let text = Line::new(&calm(), None).text();
        assert_eq!(
            text,
            "lease 43 %, 12 s left · strong 21 GMAC/s · share 25.0 % · PODL paid 30.5, pending 1.25, next 0.51 (0-2.04) \
             · won 31/62 · 127 results, 12 audits"
        );
        let with_best = text.chars().count() + " · best 0.412".chars().count();
        assert!(with_best <= 160, "{with_best} columns");
        let fresh = MinerStatus { standing: None, lease: None, stage: Stage::Joining, ..calm() };
        assert_eq!(Line::new(&fresh, Some(2)).text(), "child 2 · joining · 0 results");
        assert!(Line::new(&MinerStatus { lease: None, ..calm() }, None).text().starts_with("waiting for work · "));
    }

    #[test]
    fn what_happens_to_a_miner_is_in_its_line() {
        assert!(
            told(|s| s.kept_back_macs = 1_234_000_000).contains("share 25.0 %, 1,234 MMAC kept back until an audit ·")
        );
        let weak = told(|s| (s.class, s.speed_macs_s, s.strong_from_macs_s) = (Class::Weak, 45_000_000, 1_290_000_000));
        assert!(weak.contains(" · weak 45 MMAC/s (strong from 1.2 GMAC/s) · "), "{weak}");
        let audits = AuditTally { passed: 12, failed: 1 };
        assert!(told(|s| s.audits = audits).ends_with("127 results, 12 audits, 1 AUDITS FAILED"));
        assert!(told(|s| s.rejected = 3).ends_with("127 results, 3 refused, 12 audits"));
        let backups = BackupTally { own_taken_over: 2, own_backed_up: 0, taken_over: 3, backed_up: 1 };
        let text = told(|s| s.backups = backups);
        assert!(
            text.ends_with(" · others took over 2 of its networks · took over 3, backed up 1 of others'"),
            "{text}"
        );
        let unlucky = told(|s| (s.next_payment, s.luck) = (None, Luck { won: 0, intervals: 5 }));
        assert!(unlucky.contains("PODL paid 30.5, pending 1.25 · won 0/5 · "), "{unlucky}");
    }

    #[test]
    fn refusals_are_told_by_code_with_what_to_do() {
        let mut status = calm();
        status.refusals = BTreeMap::from([
            (Refusal::NoInterval, RefusalStatus { count: 90, ago_ms: 5 }),
            (Refusal::Late, RefusalStatus { count: 3, ago_ms: 500_000 }),
            (Refusal::NotNovel, RefusalStatus { count: 1, ago_ms: 50 }),
        ]);
        let line = Line::new(&status, None);
        let text = line.text();
        let end =
            "refused 3x the lease is over, 1x already trained: a model is paid once; train what the next lease names";
        assert!(text.ends_with(end), "{text}");
        let json = serde_json::to_value(&line).unwrap();
        let codes: Vec<&str> =
            json["refusals"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap()).collect();
        assert_eq!(codes, ["no_interval", "late", "not_novel"]);
        assert_eq!(json["refusals"][1]["count"], 3);
        assert!(json["refusals"][1]["remedy"].as_str().unwrap().starts_with("submit earlier"));
        // That there is no work between intervals, asked for twice a second, is no news.
        let polled = RefusalStatus { count: 91, ago_ms: 0 };
        status.refusals.insert(Refusal::NoInterval, polled);
        assert_eq!(Line::new(&status, None).gist(), line.gist());
        status.refusals.insert(Refusal::Late, polled);
        assert_ne!(Line::new(&status, None).gist(), line.gist());
    }

    #[test]
    fn a_miner_without_its_pool_says_since_when_why_and_what_next() {
        let offline = |for_ms, retry_ms| OfflineStatus { for_ms, reason: "nobody answers".into(), retry_ms };
        let at = |stage, offline| Line::new(&MinerStatus { stage, offline: Some(offline), ..calm() }, None);
        let waits = at(Stage::Offline, offline(125_000, Some(11_500)));
        assert!(waits.text().starts_with("offline for 2 min: nobody answers; next try in 12 s · "), "{}", waits.text());
        let tries = at(Stage::Joining, offline(7_500_000, None));
        assert!(tries.text().starts_with("offline for 2 h 5 min: nobody answers; trying now · "), "{}", tries.text());
        assert_eq!(waits.gist(), tries.gist(), "no line for every try");
        assert_ne!(waits.gist(), Line::new(&calm(), None).gist());
        let json = serde_json::to_value(&waits).unwrap();
        assert_eq!(json["stage"], "offline");
        assert_eq!((&json["offline"]["for_s"], &json["offline"]["retry_s"]), (&125.into(), &12.into()));
    }

    #[test]
    fn the_object_has_units_in_its_names_and_progress_is_no_news() {
        let line = Line::new(&calm(), None);
        let json = serde_json::to_value(&line).unwrap();
        for (name, value) in [
            ("lease_permille", 430),
            ("lease_eta_s", 12),
            ("share_ppm", 250_000),
            ("pending_units", 1_250_000),
            ("paid_units", 30_500_000),
            ("next_payment_units", 510_000),
            ("window_pay_low_units", 0),
            ("window_pay_high_units", 2_040_000),
            ("luck_won_intervals", 31),
            ("luck_worked_intervals", 62),
            ("own_networks_taken_over", 0),
        ] {
            assert_eq!(json[name], value, "{name}");
        }
        let lease = Some(LeaseStatus { done_permille: 900, eta_ms: 500 });
        let later = Line::new(&MinerStatus { lease, ..calm() }, None);
        assert!(later != line && later.gist() == line.gist());
    }
}
