//! Replays of training: what is drawn, what they wait for, and what they cost a miner.

use super::*;

impl Pool {
    /// The replay that was asked for last.
    pub fn audit(&self) -> Option<(AuditId, AuditOrder)> {
        self.effects.iter().rev().find_map(|e| match e {
            Effect::Audit { audit, order } => Some((*audit, (**order).clone())),
            _ => None,
        })
    }

    pub fn audits(&self) -> usize {
        self.effects.iter().filter(|e| matches!(e, Effect::Audit { .. })).count()
    }

    pub fn judge(&mut self, verdict: Verdict) -> AuditOrder {
        let (audit, order) = self.audit().expect("a replay was asked for");
        self.tell(Event::Audited { audit, verdict });
        order
    }

    /// A pool in which a network of miner 1 was confirmed, and proved, and the miner now goes on with it.
    pub fn with_own_base() -> (Self, Lease) {
        let mut pool = Self::new(1);
        pool.work(1, 40, 150);
        pool.judge(Verdict::Same);
        pool.now_ms = pool.manager.search().unwrap().explore_until_ms + 1000;
        let lease = pool.lease(1);
        assert_eq!(lease.purpose, Purpose::Exploit);
        pool.now_ms += lease.wall_ms;
        (pool, lease)
    }

    /// What an acknowledgement asks to be uploaded.
    pub fn wanted(&mut self, miner: u8, ask: Ask) -> Option<BlobRef> {
        match self.ask(miner, ask) {
            Reply::Ack { audit, .. } => audit,
            other => panic!("{other:?}"),
        }
    }
}

/// The state that the base of a lease ended with.
pub(super) fn end_of(lease: &Lease) -> Hash32 {
    lease.work[0].end.expect("a base with a past")
}

pub(super) fn different() -> Verdict {
    Verdict::Different("other bits".into())
}

/// Lets time pass as it does for a manager that runs.
pub(super) fn wait(pool: &mut Pool, ms: u64) {
    for _ in 0..ms / 500 {
        pool.now_ms += 500;
        pool.tell(Event::Tick);
    }
}

#[test]
fn pay_is_kept_back_until_a_first_replay_and_lost_if_that_fails() {
    let mut pool = Pool::new(2);
    for miner in [1, 2] {
        pool.manager.miners.get_mut(&id(miner)).unwrap().is_proven = false;
    }
    let macs = |pool: &Pool, miner| pool.manager.ledger().window_macs(&id(miner), PayScheme::default());
    pool.work(1, 40, 150);
    assert_eq!(macs(&pool, 1), 0, "kept back");
    let kept_back_macs = pool.manager.standing(&id(1)).kept_back_macs;
    assert!(kept_back_macs > 0);
    pool.judge(Verdict::Same);
    assert_eq!((macs(&pool, 1), pool.manager.standing(&id(1)).kept_back_macs), (kept_back_macs, 0), "credited");
    pool.work(2, 40, 151);
    pool.now_ms += 20_000;
    pool.tell(Event::Tick);
    pool.judge(Verdict::Different("trained less".into()));
    let failed = &pool.manager.miners()[&id(2)];
    assert!(failed.kept_back_macs == 0 && !failed.is_proven && macs(&pool, 2) == 0, "nothing is ever paid for it");
    let audits = |miner| pool.manager.standing(&id(miner)).audits;
    assert_eq!([1, 2].map(audits), [AuditTally { passed: 1, failed: 0 }, AuditTally { passed: 0, failed: 1 }]);
}

#[test]
fn a_share_from_scratch_is_replayed_from_what_lease_and_share_say() {
    let mut pool = Pool::new(1);
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let share = pool.share(&lease, 40);
    assert_eq!(
        pool.wanted(1, Ask::Submit { share: share.clone(), is_model: true }),
        None,
        "nothing is needed of the miner"
    );
    let (_, order) = pool.audit().unwrap();
    assert_eq!((order.from, order.images, order.states), (StartFrom::Seed, share.images, share.states));
    assert_eq!(Some(order.recipe), share.recipe(&lease));
    pool.evaluate(&share, 40, 150);
    let streak = pool.manager.miners()[&id(1)].valid_streak;
    pool.judge(Verdict::Same);
    assert_eq!(pool.manager.miners()[&id(1)].valid_streak, streak + 1, "a passed audit is a valid result");
    assert_eq!(pool.manager.audit_counts(), AuditCounts { passed: 1, ..AuditCounts::default() });
    assert!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()) > 0);
}

#[test]
fn a_failed_audit_costs_all_and_only_what_is_proved_stays() {
    let mut pool = Pool::new(2);
    let proved = pool.work(1, 40, 150);
    pool.judge(Verdict::Same);
    // While this one is replayed, others find no turn yet.
    let doubtful = pool.work(1, 41, 151);
    let failing = pool.work(1, 42, 152);
    assert!(pool.manager.elites().len() == 3 && pool.manager.ledger().window_macs(&id(1), PayScheme::default()) > 0);
    pool.now_ms += 60;
    pool.tell(Event::Tick);
    let order = pool.judge(Verdict::Undecided("no memory".into()));
    assert_eq!(order.artefact, doubtful.artefact.root);
    assert!(
        pool.manager.ledger().window_macs(&id(1), PayScheme::default()) > 0,
        "the manager's own trouble is nobody's fault"
    );
    pool.now_ms += 60_000;
    pool.tell(Event::Tick);
    let order = pool.judge(different());
    assert_eq!(order.artefact, failing.artefact.root);
    let record = &pool.manager.miners()[&id(1)];
    assert!(record.is_suspended(pool.now_ms) && record.valid_streak == 0);
    assert_eq!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()), 0);
    let known = |pool: &Pool| pool.manager.elites().iter().map(|e| e.artefact).collect::<Vec<_>>();
    assert_eq!(known(&pool), [doubtful.artefact, proved.artefact]);
    // What could be replayed is, and dropped when it is false too.
    pool.now_ms += 60_000;
    pool.tell(Event::Tick);
    assert_eq!(pool.judge(different()).artefact, doubtful.artefact.root);
    assert_eq!(known(&pool), [proved.artefact]);
    pool.now_ms += 60_000;
    let before = pool.audits();
    pool.tell(Event::Tick);
    assert_eq!(pool.audits(), before, "what is proved is not replayed again");
}

#[test]
fn a_continued_share_needs_its_state_and_is_replayed_when_it_is_there() {
    let (mut pool, lease) = Pool::with_own_base();
    let end = end_of(&lease);
    let mut share = pool.share(&lease, 45);
    share.states.start = end;
    let wanted = pool.wanted(1, Ask::Submit { share: share.clone(), is_model: true }).expect("a state is wanted");
    let work = pool.manager.search().unwrap().interval.workload.clone();
    let network = podl_consensus::workload::Network::new(&share.architecture, work.input, 10, work.space.dense);
    assert_eq!(wanted, BlobRef { root: end, bytes: crate::training::state_bytes(&network.unwrap()) });
    let before = pool.audits();
    assert!(pool.manager.wants_state(&id(1), &wanted) && !pool.manager.wants_state(&id(2), &wanted));
    assert_eq!(pool.wanted(1, Ask::Chunk), Some(wanted), "until it is there");
    pool.tell(Event::StateArrived { miner: id(1), root: Hash32([77; 32]) });
    assert_eq!((pool.wanted(1, Ask::Chunk), pool.audits()), (Some(wanted), before), "another state");
    pool.now_ms += 10_000;
    pool.tell(Event::StateArrived { miner: id(1), root: wanted.root });
    assert_eq!(pool.wanted(1, Ask::Chunk), None);
    assert_eq!((pool.audits(), pool.audit().unwrap().1.from), (before + 1, StartFrom::State(wanted)));
    assert!(pool.manager.wanted_states().contains(&wanted.root));
    pool.judge(Verdict::Same);
    assert!(pool.manager.wanted_states().is_empty());
}

#[test]
fn a_start_of_ones_own_must_be_what_the_artefact_gives() {
    let (mut pool, lease) = Pool::with_own_base();
    let mut share = pool.share(&lease, 45);
    share.states.start = Hash32([66; 32]);
    assert_eq!(pool.wanted(1, Ask::Submit { share: share.clone(), is_model: true }), None);
    let base = lease.work[0].base.unwrap().root;
    assert_eq!(pool.audit().unwrap().1.from, StartFrom::Artefact(base));
    assert!(pool.manager.pinned().contains(&base));
}

#[test]
fn a_state_that_does_not_come_is_a_failed_audit() {
    // Refused, broken down, begun anew: all lose their work in the window, only the first is shut out.
    for case in 0..3 {
        let (mut pool, lease) = Pool::with_own_base();
        let mut share = pool.share(&lease, 45);
        share.states.start = end_of(&lease);
        let wanted = pool.wanted(1, Ask::Submit { share: share.clone(), is_model: true }).expect("a state is wanted");
        pool.evaluate(&share, 45, 160);
        assert!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()) > 0);
        match case {
            1 => drop(pool.ask(1, Ask::Leave)),
            2 => drop(pool.ask(1, Ask::Hello { version: VERSION, account: AccountId([1; 32]) })),
            _ => {}
        }
        // A restarted manager cannot have been told meanwhile.
        pool.now_ms += 3_600_000;
        pool.tell(Event::Tick);
        assert_eq!(pool.manager.audit_counts().failed, 0, "case {case}");
        let upload_ms = pool.manager.params().upload_ms(wanted.bytes);
        for ms in [upload_ms - 3000, 4000] {
            assert_eq!(pool.manager.audit_counts().failed, 0, "case {case}: there is time yet");
            if case == 0 {
                assert!(pool.wanted(1, Ask::Chunk).is_some(), "it is there, and refuses");
            }
            wait(&mut pool, ms);
        }
        assert_eq!(pool.manager.audit_counts().failed, 1, "case {case}");
        assert_eq!(pool.manager.standing(&id(1)).audits.failed, 1, "case {case}");
        assert_eq!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()), 0, "case {case}");
        let record = &pool.manager.miners()[&id(1)];
        assert_eq!((record.is_suspended(pool.now_ms), record.valid_streak), (case == 0, 0), "case {case}");
        assert!(pool.manager.elites().iter().all(|e| e.artefact != share.artefact), "case {case}");
    }
}

#[test]
fn replays_rest_and_few_wait() {
    let mut pool = Pool::new(1);
    pool.manager.params.audits.queue = 1;
    pool.work(1, 40, 150);
    let (first, began_ms) = (pool.audit().unwrap().1.artefact, pool.now_ms);
    let waiting = [pool.work(1, 41, 151), pool.work(1, 42, 152)];
    assert_eq!((pool.audits(), pool.manager.audit_counts().skipped), (1, 1), "one runs, one waits");
    assert_eq!(pool.judge(Verdict::Same).artefact, first);
    pool.now_ms += pool.now_ms - began_ms - 1;
    pool.tell(Event::Tick);
    assert_eq!(pool.audits(), 1, "a rest as long as the replay");
    assert_eq!(pool.manager.next_wake_ms(), Some(pool.now_ms + 1));
    pool.now_ms += 1;
    pool.tell(Event::Tick);
    let next = pool.audit().unwrap().1.artefact;
    assert!(waiting.iter().any(|share| share.artefact.root == next) && pool.audits() == 2);
}

#[test]
fn a_full_queue_does_not_hide_what_comes_later() {
    let mut pool = Pool::new(1);
    pool.manager.params.audits.queue = 1;
    pool.work(1, 40, 150);
    pool.manager.params.evaluation_queue = 1000;
    pool.manager.params.requests_per_s = 1000;
    pool.manager.params.audits.permille = 1000;
    let (mut last, mut replayed) = (0, [0; 2]);
    for _ in 0..60 {
        // One is replayed meanwhile; of the two that come now one will be next.
        let lease = pool.lease(1);
        pool.now_ms += 20;
        let mut shares = [10, 20].map(|_| {
            let mut share = pool.share(&lease, 40);
            (share.images, share.ordered) = (1, 1);
            share
        });
        shares[1].base = Some(shares[0].artefact.root);
        let taken = shares.iter().filter(|s| pool.submit(1, s).is_none()).count();
        pool.judge(Verdict::Undecided("to go on".into()));
        let next = pool.audit().unwrap().1.artefact;
        if taken == 2 && pool.audits() > last {
            replayed[usize::from(next == shares[1].artefact.root)] += 1;
        }
        last = pool.audits();
    }
    assert!(replayed[0] >= 15 && replayed[1] >= 15, "{replayed:?}");
}

#[test]
fn who_never_uploads_a_state_holds_up_no_other_replay() {
    let (mut pool, lease) = Pool::with_own_base();
    pool.join(2);
    pool.manager.params.audits.queue = 1;
    let mut share = pool.share(&lease, 45);
    share.states.start = end_of(&lease);
    assert!(pool.wanted(1, Ask::Submit { share, is_model: true }).is_some(), "it waits for its state");
    pool.now_ms += 20_000;
    pool.tell(Event::Tick);
    let audits = pool.audits();
    let fresh = pool.work(2, 40, 150);
    assert_eq!(pool.audits(), audits + 1);
    assert_eq!(pool.audit().unwrap().1.artefact, fresh.artefact.root);
}

#[test]
fn nobody_rids_itself_of_a_state_that_it_owes() {
    let (mut pool, lease) = Pool::with_own_base();
    pool.join(2);
    pool.manager.params.audits.queue = 1;
    let mut share = pool.share(&lease, 45);
    share.states.start = end_of(&lease);
    let owed = pool.wanted(1, Ask::Submit { share: share.clone(), is_model: true }).expect("a state is wanted");
    // A name that is free, of which every result is drawn, has many on the same footing.
    pool.manager.miners.get_mut(&id(2)).unwrap().is_proven = false;
    let theirs = pool.lease(2);
    pool.now_ms += theirs.wall_ms;
    let mut first = pool.share(&theirs, 40);
    (first.images, first.ordered) = (32, 32);
    pool.submit(2, &first);
    pool.evaluate(&first, 40, 150);
    let mut last = first;
    for _ in 0..30 {
        let mut next = pool.share(&theirs, 41);
        (next.images, next.ordered) = (32, 32);
        (next.base, next.states.start) = (Some(last.artefact.root), last.states.end);
        assert_eq!(pool.submit(2, &next), None);
        pool.evaluate(&next, 41, 151);
        last = next;
        assert!(pool.manager.wants_state(&id(1), &owed));
        pool.now_ms += 200;
    }
    assert!(pool.manager.audit_counts().skipped >= 30, "they would have had its place");
    pool.tell(Event::StateArrived { miner: id(1), root: owed.root });
    pool.judge(Verdict::Same);
    pool.now_ms += 60_000;
    pool.tell(Event::Tick);
    assert_eq!(pool.audit().unwrap().1.artefact, share.artefact.root);
}

#[test]
fn states_that_a_miner_owes_have_their_time_one_after_the_other() {
    let (mut pool, lease) = Pool::with_own_base();
    let mut first = pool.share(&lease, 45);
    first.states.start = end_of(&lease);
    (first.images, first.ordered) = (32, 32);
    let owed = pool.wanted(1, Ask::Submit { share: first.clone(), is_model: true }).expect("a state is wanted");
    pool.evaluate(&first, 45, 160);
    let mut second = pool.share(&lease, 46);
    (second.images, second.ordered) = (32, 32);
    (second.base, second.states.start) = (Some(first.artefact.root), first.states.end);
    assert_eq!(pool.wanted(1, Ask::Submit { share: second, is_model: true }), Some(owed), "one at a time");
    let upload_ms = pool.manager.params().upload_ms(owed.bytes);
    wait(&mut pool, upload_ms - 2000);
    pool.tell(Event::StateArrived { miner: id(1), root: owed.root });
    let next = pool.wanted(1, Ask::Chunk).expect("the other");
    assert_eq!(next.root, first.states.end);
    wait(&mut pool, upload_ms - 2000);
    assert_eq!((pool.manager.audit_counts().failed, pool.wanted(1, Ask::Chunk)), (0, Some(next)));
    wait(&mut pool, 4000);
    assert_eq!(pool.manager.audit_counts().failed, 1);
}

#[test]
fn a_state_that_has_not_come_when_its_data_go_is_a_failed_audit() {
    let (mut pool, lease) = Pool::with_own_base();
    let mut share = pool.share(&lease, 45);
    share.states.start = end_of(&lease);
    pool.wanted(1, Ask::Submit { share, is_model: true }).expect("a state is wanted");
    let mut interval = pool.manager.search().unwrap().interval.clone();
    for (number, failed) in [(2, 0), (3, 1)] {
        interval.parent = Hash32([number; 32]);
        interval.data = DataSource::Filler { seed: [number; 32] };
        let deadline_ms = pool.now_ms + 48_000;
        let started = Box::new(interval.clone());
        pool.tell(Event::IntervalStarted { interval: started, plan: PLAN, deadline_ms });
        pool.tell(Event::Tick);
        assert_eq!(pool.manager.audit_counts().failed, failed, "interval {number}");
    }
}

#[test]
fn replays_wait_for_the_next_interval_and_no_longer_on_other_data() {
    for (same, intervals, replays) in [(true, 2, 2), (false, 1, 2), (false, 2, 1)] {
        let mut pool = Pool::new(1);
        pool.work(1, 40, 150);
        let waiting = pool.work(1, 41, 151);
        let mut interval = pool.manager.search().unwrap().interval.clone();
        for number in 2..2 + intervals {
            pool.now_ms += 60_000;
            interval.parent = Hash32([number; 32]);
            if !same {
                interval.data = DataSource::Filler { seed: [number; 32] };
            }
            let deadline_ms = pool.now_ms + 48_000;
            let interval = Box::new(interval.clone());
            pool.tell(Event::IntervalStarted { interval, plan: PLAN, deadline_ms });
        }
        pool.judge(Verdict::Same);
        pool.now_ms += 600_000;
        pool.tell(Event::Tick);
        let asked = pool.audit().unwrap().1.artefact == waiting.artefact.root;
        assert_eq!((pool.audits(), asked), (replays, replays == 2), "{same} {intervals}");
    }
}

#[test]
fn the_nodes_own_miner_is_not_audited() {
    let mut pool = Pool::new(1);
    pool.join(99);
    pool.work(99, 40, 150);
    assert_eq!((pool.audits(), pool.manager.audit_counts()), (0, AuditCounts::default()));
}

#[test]
fn audits_are_drawn_as_often_as_checks() {
    let mut pool = Pool::new(1);
    let draws = |pool: &mut Pool, streak| {
        pool.manager.miners.get_mut(&id(1)).unwrap().valid_streak = streak;
        (0..2000).filter(|_| pool.manager.draw_check(&id(1))).count()
    };
    assert_eq!(draws(&mut pool, 9), 2000);
    assert!((150..=250).contains(&draws(&mut pool, 10)));
    assert!((60..=140).contains(&draws(&mut pool, 1000)), "never less than one in twenty");
}
