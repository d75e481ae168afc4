//! The manager's search under each partition: what it hands out, part by part.

use std::collections::BTreeSet;

use podl_consensus::workload::{Network, Setting, Space};

use super::*;
use crate::drivers::Journal;
use crate::partition::{Count, disjoint, paper_table};
use crate::types::Assignment;

const MINERS: u8 = 9;

/// A pool whose candidates are watched: where they lie, whether any comes twice, which parts are given up for which.
struct Watched {
    pool: Pool,
    /// The parts, as they were when the search began.
    parts: Vec<Subspace>,
    /// The best count that each part has shown.
    best: Vec<Option<u32>>,
    seen: BTreeSet<Hash32>,
    /// Which parts are searched, from one stage to the next.
    stages: Vec<Vec<usize>>,
}

impl Watched {
    /// Nine miners that explore all the time and whose every result is checked, none replayed.
    fn new(scheme: Scheme) -> Self {
        let mut pool = Pool::new(MINERS);
        let params = &mut pool.manager.params;
        (params.scheme, params.exploit, params.always_check) = (scheme, false, u32::MAX);
        (params.audits.permille, params.backups_permille) = (0, 0);
        Self { pool, parts: Vec::new(), best: Vec::new(), seen: BTreeSet::new(), stages: Vec::new() }
    }

    fn active(&self) -> Vec<usize> {
        self.pool.manager.proposals().unwrap().parts.active().to_vec()
    }

    /// All miners take a lease, and hand in what it lists when its time is over.
    fn round(&mut self) {
        let leases: Vec<(u8, Lease)> = (1..=MINERS).map(|miner| (miner, self.lease(miner))).collect();
        self.pool.now_ms += leases.iter().map(|(_, lease)| lease.wall_ms).max().unwrap();
        for (miner, lease) in &leases {
            for work in &lease.work {
                self.hand_in(*miner, lease, work);
            }
        }
    }

    fn lease(&mut self, miner: u8) -> Lease {
        // Three parts in a row may turn out to have nothing: the miner asks again.
        let mut replies = (0..3).map(|_| self.pool.ask(miner, Ask::Lease));
        let lease = replies.find_map(|reply| if let Reply::Lease { lease, .. } = reply { Some(lease) } else { None });
        let lease = lease.expect("a lease");
        if self.parts.is_empty() {
            let boxes = self.pool.manager.proposals().unwrap().parts.boxes();
            self.parts = boxes.iter().map(|part| part.subspace.clone()).collect();
            self.best = vec![None; self.parts.len()];
            self.stages.push(self.active());
        }
        for work in lease.work.iter().filter(|work| work.base.is_none()) {
            assert_eq!(lease.purpose, Purpose::Explore);
            let part = self.part_of(&work.architecture);
            assert!(self.active().contains(&part), "part {part} is not searched any more");
            assert!(self.parts[part].contains(&work.architecture), "outside part {part}: {:?}", work.architecture);
            assert!(self.seen.insert(architecture_name(&work.architecture)), "twice: {:?}", work.architecture);
        }
        *lease
    }

    /// For which part a network was proposed.
    fn part_of(&self, network: &Architecture) -> usize {
        let units = &self.pool.manager.memories.current().unwrap().units;
        units.iter().find(|unit| unit.architecture == *network).unwrap().part.unwrap()
    }

    /// A result of what a lease lists; the count is the network's own, whatever it was trained.
    fn hand_in(&mut self, miner: u8, lease: &Lease, work: &Assignment) {
        let count = 50 + u32::from(architecture_name(&work.architecture).0[0]);
        let part = self.part_of(&work.architecture);
        let mut share = self.pool.share(lease, count / 4);
        (share.architecture, share.base) = (work.architecture.clone(), work.base.map(|base| base.root));
        (share.images, share.ordered) = (work.images, work.images);
        assert_eq!(self.pool.submit(miner, &share), None);
        let ends = self.pool.manager.unit_counts().done;
        self.pool.evaluate(&share, count / 4, count);
        if self.pool.manager.unit_counts().done > ends {
            self.best[part] = self.best[part].max(Some(count));
        }
        let active = self.active();
        if self.stages.last() != Some(&active) {
            self.gave_up(&active);
            self.stages.push(active);
        }
    }

    /// What is searched on is a third of what was, and no part that was given up had shown more.
    fn gave_up(&self, kept: &[usize]) {
        let before = self.stages.last().unwrap();
        assert!(kept.iter().all(|part| before.contains(part)) && kept.len() == before.len().div_ceil(3), "{kept:?}");
        let left = before.iter().filter(|part| !kept.contains(part));
        let most_left = left.map(|&part| self.best[part]).max().unwrap();
        assert!(kept.iter().all(|&part| self.best[part] >= most_left), "{kept:?} of {:?}", self.best);
    }

    /// What the manager says of the space against what was seen.
    fn covers(&self, whole: &Subspace) {
        let (space, searched, begun) = self.pool.manager.explored().unwrap();
        let active: Vec<Subspace> = self.active().into_iter().map(|part| self.parts[part].clone()).collect();
        assert_eq!((&space, &searched, begun), (whole, &active, self.seen.len()));
    }
}

/// Leases and results of some rounds in two phases of a task.
fn watch(scheme: Scheme) -> (Watched, Subspace) {
    let mut watched = Watched::new(scheme);
    let workload = watched.pool.manager.search().unwrap().interval.workload.clone();
    let whole = Subspace::whole(workload.space.clone());
    for phase in 1..=2 {
        for _ in 0..4 {
            watched.round();
            watched.covers(&whole);
        }
        watched.pool.now_ms += 48_000;
        watched.pool.begin(phase + 1, &workload, None);
    }
    assert!(watched.seen.len() > 40, "{} candidates", watched.seen.len());
    assert_eq!(watched.pool.manager.partition(), scheme);
    (watched, whole)
}

#[test]
fn every_candidate_lies_in_a_part_of_its_scheme_and_none_comes_twice() {
    for scheme in Scheme::ALL {
        let (watched, whole) = watch(scheme);
        let (parts, space) = (&watched.parts, &whole.space);
        match scheme {
            Scheme::Whole => assert_eq!(parts, std::slice::from_ref(&whole)),
            Scheme::Disjoint => assert_eq!(parts, &disjoint(space, 9)),
            Scheme::PaperTable => assert_eq!(parts, &paper_table(space)),
            // Drawn: of each it is known only that it is a part, and that there is one for every miner that explores.
            Scheme::Algorithm1 => assert!(parts.len() >= 5 && parts.iter().all(|part| part.cuts.is_empty())),
        }
        assert!(parts.iter().all(|part| part.intersection(&whole).as_ref() == Some(part)), "{scheme}");
        let stages: Vec<usize> = watched.stages.iter().map(Vec::len).collect();
        match scheme {
            Scheme::Disjoint => assert_eq!(stages, [9, 3, 1]),
            _ => assert_eq!(stages, [parts.len()], "{scheme}: only boxes are given up"),
        }
    }
}

#[test]
fn boxes_cover_the_space_once_and_coverage_shrinks_by_those_given_up() {
    let (watched, whole) = watch(Scheme::Disjoint);
    let of = |stage: &[usize]| -> Vec<Subspace> { stage.iter().map(|&part| watched.parts[part].clone()).collect() };
    let sum = |parts: &[Subspace]| parts.iter().fold(Count::default(), |sum, part| sum.plus(&part.cardinality()));
    let counts: Vec<Count> = watched.stages.iter().map(|stage| sum(&of(stage))).collect();
    assert_eq!(counts[0], whole.cardinality());
    assert!(counts[0] > counts[1] && counts[1] > counts[2], "{counts:?}");
    for (stage, count) in watched.stages.iter().zip(&counts) {
        assert_eq!(&union_cardinality(&of(stage)), count, "no network is in two boxes");
    }
    let (_, searched, _) = watched.pool.manager.explored().unwrap();
    assert_eq!(&union_cardinality(&searched), counts.last().unwrap());
}

#[test]
fn another_partition_holds_for_searches_that_begin_after_it_and_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let mut pool = Pool::new(MINERS);
    pool.lease(1);
    pool.manager.set_params(PoolParams { scheme: Scheme::Disjoint, ..pool.manager.params().clone() });
    // What a driver does when it starts: events that follow are replayed under this start's parameters.
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.snapshot(&pool.manager).unwrap();
    let mut tell = |pool: &mut Pool, event: Event| {
        journal.append(pool.now_ms, &event).unwrap();
        pool.tell(event);
    };
    let asks = |miner| Event::Asked { miner: id(miner), ask: Ask::Lease };
    tell(&mut pool, asks(2));
    assert_eq!((pool.manager.partition(), pool.manager.explored().unwrap().1.len()), (Scheme::Whole, 1), "it goes on");
    let interval = pool.manager.search().unwrap().interval.clone();
    let other = Box::new(Interval { parent: Hash32([2; 32]), height: 2, task: Hash32([7; 32]), ..interval });
    let deadline_ms = pool.now_ms + 48_000;
    tell(&mut pool, Event::IntervalStarted { interval: other, plan: PLAN, deadline_ms });
    tell(&mut pool, asks(1));
    assert_eq!((pool.manager.partition(), pool.manager.explored().unwrap().1.len()), (Scheme::Disjoint, 9));
    assert_eq!(Journal::open(folder.path()).unwrap().1.unwrap(), pool.manager);
}

/// A space in which kernels alone decide what a network costs.
fn kernels_only(mut space: Space) -> Space {
    for setting in [Setting::Filters, Setting::StrideHeight, Setting::StrideWidth, Setting::Pool] {
        let first = setting.values(&space)[0];
        setting.set_values(&mut space, &[first]);
    }
    (space.kernel_height, space.kernel_width) = (vec![1, 3, 5, 7, 9], vec![1, 3, 5, 7, 9]);
    space
}

#[test]
fn boxes_in_which_the_task_admits_nothing_are_passed_over_and_given_up_first() {
    let mut watched = Watched::new(Scheme::Disjoint);
    let mut rng = SeededRng::new(b"barren", "test");
    let interval = &mut watched.pool.manager.search.as_mut().unwrap().interval;
    let work = &mut interval.workload;
    work.space = kernels_only(work.space.clone());
    let boxes = disjoint(&work.space, 9);
    let macs = |drawn: Architecture| Network::new(&drawn, work.input, work.classes, work.space.dense).unwrap().macs();
    let mut least_macs = |part: &Subspace| (0..3000).map(|_| macs(part.draw(&mut rng).unwrap())).min().unwrap();
    // Only of the four boxes with the smallest networks any can be scored.
    let mut least: Vec<(u64, usize)> = boxes.iter().map(&mut least_macs).zip(0..).collect();
    least.sort_unstable();
    assert!(least[3].0 < least[4].0);
    interval.score_macs = least[4].0 * u64::from(work.shard_images) - 1;
    for _ in 0..4 {
        watched.round();
    }
    let stages: Vec<usize> = watched.stages.iter().map(Vec::len).collect();
    assert_eq!(stages, [9, 3, 1], "nobody waits for what cannot come");
    let found: Vec<usize> = (0..9).filter(|&part| watched.best[part].is_some()).collect();
    assert!(found.iter().all(|part| least[..4].iter().any(|(_, few)| few == part)), "{found:?} {least:?}");
    assert!(found.contains(&watched.active()[0]));
}
