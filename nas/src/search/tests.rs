//! Strategies on a made-up reward, and the journal through kills.

use std::io::Write;
use std::path::Path;

use podl_consensus::workload::{Architecture, Setting, Space};

use super::*;

fn space_box() -> SearchBox {
    SearchBox::from_space(&Space::full(6)).unwrap()
}

fn config(strategy: StrategyKind, seed: u8) -> SearchConfig {
    let rungs = Rungs::one(1);
    SearchConfig { strategy, search_box: space_box(), seed: [seed; 32], starts: Vec::new(), rungs, chance: 0 }
}

/// A smooth reward with its best at 36 filters, kernels of 3, stride 1 and 6 bits.
fn reward(architecture: &Architecture) -> u32 {
    let miss: u32 = architecture
        .layers
        .iter()
        .map(|l| {
            let kernel = u32::from(l.kernel[0].abs_diff(3)) + u32::from(l.kernel[1].abs_diff(3));
            let stride = u32::from(l.stride[0] + l.stride[1] - 2) * 2;
            kernel + stride + u32::from(l.filters.abs_diff(36)) / 8 + l.weight.total_bits().abs_diff(6)
        })
        .sum();
    MOST_REWARD / (1 + miss)
}

/// Small networks only: a static filter that refuses many proposals.
fn filter() -> Box<dyn Fn(&Architecture) -> bool + Send> {
    Box::new(|a| a.layers.iter().map(|l| u32::from(l.filters)).sum::<u32>() < 300)
}

fn run(search: &mut Search, episodes: u64) -> Vec<Architecture> {
    let mut visited = Vec::new();
    while search.episodes() < episodes {
        let job = search.next().unwrap();
        search.record(&job, reward(&job.architecture), serde_json::json!({"seconds": 1})).unwrap();
        visited.push(job.architecture);
    }
    visited
}

#[test]
fn hill_climbing_beats_random_search_here() {
    let best = |kind, seed| {
        let mut search = Search::open(config(kind, seed), filter(), None).unwrap();
        run(&mut search, 200);
        search.best().unwrap().1
    };
    for seed in 0..5 {
        let (climbed, random) = (best(StrategyKind::HillClimb, seed), best(StrategyKind::Random, seed));
        assert!(climbed > 2 * random, "seed {seed}: {climbed} {random}");
    }
}

#[test]
fn a_search_follows_its_seed_and_visits_nothing_twice() {
    for kind in StrategyKind::ALL {
        let visit = |seed| run(&mut Search::open(config(kind, seed), filter(), None).unwrap(), 150);
        let visited = visit(1);
        assert_eq!(visited, visit(1));
        assert_ne!(visited, visit(2));
        let mut hashes: Vec<_> = visited.iter().map(architecture_hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 150);
        assert!(visited.iter().all(|a| space_box().contains(a) && filter()(a)));
    }
}

#[test]
fn the_state_survives_serialisation() {
    for kind in StrategyKind::ALL {
        let mut strategy = AnyStrategy::new(kind, space_box(), [3; 32], Vec::new());
        for _ in 0..27 {
            let architecture = strategy.propose();
            strategy.report(&architecture, reward(&architecture));
        }
        let json = serde_json::to_string(&strategy).unwrap();
        let mut copy: AnyStrategy = serde_json::from_str(&json).unwrap();
        assert_eq!(copy, strategy);
        for _ in 0..20 {
            assert_eq!(copy.propose(), strategy.propose());
        }
        assert_eq!(kind.name().parse(), Ok(kind));
    }
}

#[test]
fn a_journal_cut_anywhere_goes_on_the_same() {
    for kind in StrategyKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search.jsonl");
        let whole = run(&mut Search::open(config(kind, 8), filter(), Some(&path)).unwrap(), 35);
        let text = std::fs::read_to_string(&path).unwrap();
        for kept in [0, text.len() / 3, text.len() / 2, text.len() - 1] {
            std::fs::write(&path, &text[..kept]).unwrap();
            let mut search = Search::open(config(kind, 8), filter(), Some(&path)).unwrap();
            let from = usize::try_from(search.episodes()).unwrap();
            assert!(from < 35);
            assert_eq!(run(&mut search, 35), whole[from..]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}

#[test]
fn starting_points_come_first_whatever_the_strategy() {
    let starts: Vec<_> = starting_points(&space_box()).into_iter().map(|point| point.architecture).collect();
    for kind in StrategyKind::ALL {
        let mut strategy = AnyStrategy::new(kind, space_box(), [3; 32], starts.clone());
        assert!(starts.iter().all(|start| strategy.propose() == *start), "{}", kind.name());
    }
}

#[test]
fn wide_steps_move_one_setting_of_all_layers_the_same_way() {
    let search_box = space_box();
    let mut random = crate::data::Random::new("test", &[6; 32], 0);
    let mut moved = 0;
    for _ in 0..300 {
        let network = search_box.sample(&mut random);
        let shifted = search_box.shift(&network, &mut random);
        assert!(search_box.contains(&shifted));
        let differ = |setting: &Setting| {
            network.layers.iter().zip(&shifted.layers).any(|(a, b)| setting.get(a) != setting.get(b))
        };
        let changed: Vec<Setting> = Setting::ALL.into_iter().filter(differ).collect();
        assert!(changed.len() <= 1);
        for setting in changed {
            moved += 1;
            let signs = network.layers.iter().zip(&shifted.layers).map(|(a, b)| setting.get(b).cmp(&setting.get(a)));
            let mut signs: Vec<_> = signs.filter(|sign| sign.is_ne()).collect();
            signs.dedup();
            assert_eq!(signs.len(), 1);
        }
    }
    assert!(moved > 200, "{moved}");
}

/// Runs with a journal that is reopened after every few episodes, cut off at a chosen byte like by a crash.
fn run_with_kills(path: &Path, episodes: u64, kind: StrategyKind) -> Vec<Architecture> {
    let shared = space_box().sample(&mut crate::data::Random::new("test", &[9; 32], 0));
    let mut visited = Vec::new();
    for stop in (1..=episodes).step_by(7).chain([episodes]) {
        let mut search = Search::open(config(kind, 5), filter(), Some(path)).unwrap();
        assert_eq!(search.episodes(), visited.len() as u64, "nothing lost, nothing repeated");
        visited.extend(run(&mut search, stop));
        if search.known(&shared).is_none() && stop > 10 {
            // Once between two episodes, once while a network is out; killed before its result.
            search.next().unwrap();
            search.share(&shared, 900_000).unwrap();
        }
        drop(search);
        // Half a line, as a crash in the midst of a write leaves it.
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"episode\":{\"episode\":99,\"archi").unwrap();
    }
    visited
}

#[test]
fn a_killed_search_goes_on_where_it_was() {
    for kind in StrategyKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search.jsonl");
        let killed = run_with_kills(&path, 60, kind);
        // The same without kills, with the shared result at the same place.
        let mut straight = Search::open(config(kind, 5), filter(), None).unwrap();
        let shared = space_box().sample(&mut crate::data::Random::new("test", &[9; 32], 0));
        let mut visited = run(&mut straight, 15);
        straight.next().unwrap();
        straight.share(&shared, 900_000).unwrap();
        visited.extend(run(&mut straight, 60));
        assert_eq!(killed, visited);
        assert_eq!(straight.best().unwrap(), (&shared, 900_000));
    }
}

#[test]
fn foreign_and_damaged_journals_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.jsonl");
    run(&mut Search::open(config(StrategyKind::HillClimb, 1), filter(), Some(&path)).unwrap(), 5);
    let other = Search::open(config(StrategyKind::HillClimb, 2), filter(), Some(&path)).err().unwrap();
    assert!(matches!(other, SearchError::Journal(JournalError::OtherSearch { .. })));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let swapped = [lines[0], lines[2], lines[1], lines[3], ""].join("\n");
    std::fs::write(&path, swapped).unwrap();
    let error = Search::open(config(StrategyKind::HillClimb, 1), filter(), Some(&path)).err().unwrap().to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn results_nobody_asked_for_are_refused() {
    let mut search = Search::open(config(StrategyKind::Random, 1), filter(), None).unwrap();
    let asked = search.next().unwrap();
    assert_eq!(search.next().unwrap(), asked);
    let other = Job { architecture: Architecture { layers: asked.architecture.layers[1..].to_vec() }, ..asked };
    assert!(matches!(search.record(&other, 1, serde_json::Value::Null), Err(SearchError::NotAsked)));
}

#[test]
fn a_box_of_one_network_is_soon_exhausted() {
    let mut space = Space::full(1);
    for list in [&mut space.kernel_height, &mut space.kernel_width, &mut space.stride_height, &mut space.stride_width] {
        *list = vec![1];
    }
    (space.filters, space.pool) = (vec![4], vec![1]);
    for list in [&mut space.act_int, &mut space.act_frac, &mut space.weight_int, &mut space.weight_frac] {
        *list = vec![2];
    }
    let search_box = SearchBox::from_space(&space).unwrap();
    for strategy in StrategyKind::ALL {
        let config = SearchConfig { search_box: search_box.clone(), ..config(strategy, 1) };
        let mut search = Search::open(config, Box::new(|_| true), None).unwrap();
        run(&mut search, 1);
        assert!(matches!(search.next(), Err(SearchError::Exhausted { .. })));
    }
}

#[test]
fn boxes_without_networks_are_refused() {
    let mut layer = LayerBox(Setting::ALL.map(|s| s.values(&Space::full(1))));
    layer.0[Setting::ActInt as usize] = vec![0];
    assert!(SearchBox::new(vec![layer.clone()]).is_ok());
    layer.0[Setting::ActFrac as usize] = vec![0];
    let error = SearchBox::new(vec![layer.clone()]).unwrap_err();
    assert_eq!(error, BoxError::NoBits { layer: 0, what: "activation" });
    layer.0[Setting::ActFrac as usize] = vec![];
    assert!(matches!(SearchBox::new(vec![layer]), Err(BoxError::Empty { setting: Setting::ActFrac, .. })));
    assert_eq!(SearchBox::new(vec![]), Err(BoxError::NoLayers));
}

#[test]
fn starting_points_lie_in_every_box() {
    for name in ["full", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9"] {
        let Some(space) = Space::preset(name, 6) else { panic!("{name} is a preset") };
        let search_box = SearchBox::from_space(&space).unwrap();
        let points = starting_points(&search_box);
        assert!(!points.is_empty());
        assert!(points.iter().all(|p| space.contains(&p.architecture)), "{name}");
        let mut random = crate::data::Random::new("test", &[1; 32], 0);
        for _ in 0..50 {
            let network = search_box.sample(&mut random);
            assert!(space.contains(&network));
            assert!(space.contains(&search_box.mutate(&network, 3, &mut random)));
        }
    }
}

fn rung_config(kind: StrategyKind) -> SearchConfig {
    SearchConfig { rungs: "1,3,10".parse().unwrap(), chance: 20_000, ..config(kind, 8) }
}

/// Runs to the end with early stopping; longer training does better, some networks more than others.
fn run_rungs(search: &mut Search, episodes: u64) -> Vec<(u64, u32)> {
    let mut trained = Vec::new();
    loop {
        let job = if search.episodes() < episodes {
            search.next().unwrap()
        } else {
            let Some(job) = search.next_to_the_end() else { break };
            job
        };
        let talent = u32::from(architecture_hash(&job.architecture)[0]);
        let reward = reward(&job.architecture) / 2 + job.epochs * (10_000 + 50 * talent);
        search.record(&job, reward, serde_json::Value::Null).unwrap();
        trained.push((job.episode, job.epochs));
    }
    trained
}

#[test]
fn early_stopping_trains_a_third_of_each_rung_and_ends_on_the_last() {
    let mut search = Search::open(rung_config(StrategyKind::HillClimb), filter(), None).unwrap();
    let trained = run_rungs(&mut search, 60);
    let on = |epochs| trained.iter().filter(|job| job.1 == epochs).count();
    assert_eq!(on(1), 60);
    assert!((18..=28).contains(&on(3)) && (6..=10).contains(&on(10)), "{} {}", on(3), on(10));
    for job in trained.iter().filter(|job| job.1 == 10) {
        assert!(trained.contains(&(job.0, 3)) && trained.contains(&(job.0, 1)));
    }
    let mut once = trained.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), trained.len(), "nothing is trained twice");
    // Even two networks end with one that had all epochs.
    let config = SearchConfig { chance: 0, ..rung_config(StrategyKind::HillClimb) };
    let mut short = Search::open(config, filter(), None).unwrap();
    assert_eq!(run_rungs(&mut short, 2).last().unwrap().1, 10);
}

#[test]
fn a_journal_with_rungs_cut_anywhere_goes_on_the_same() {
    for kind in [StrategyKind::HillClimb, StrategyKind::Evolution, StrategyKind::Predictor] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search.jsonl");
        let whole = run_rungs(&mut Search::open(rung_config(kind), filter(), Some(&path)).unwrap(), 35);
        let text = std::fs::read_to_string(&path).unwrap();
        for kept in (0..12).map(|part| text.len() * part / 12).chain([text.len() - 1]) {
            std::fs::write(&path, &text[..kept]).unwrap();
            let before = text[..kept].matches('\n').count().saturating_sub(1);
            let mut search = Search::open(rung_config(kind), filter(), Some(&path)).unwrap();
            assert_eq!(run_rungs(&mut search, 35), whole[before..], "{}", kind.name());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let history = history(&path).unwrap();
        assert_eq!(history.len(), 35);
        for episode in &history {
            let most = whole.iter().filter(|job| job.0 == episode.episode).map(|job| job.1).max();
            assert_eq!(Some(episode.epochs), most);
        }
        let best = history.iter().map(|episode| episode.reward).max();
        assert_eq!(best, Search::open(rung_config(kind), filter(), Some(&path)).unwrap().best().map(|best| best.1));
    }
}

#[test]
fn a_finished_search_can_be_taken_further() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.jsonl");
    let config = || rung_config(StrategyKind::HillClimb);
    run_rungs(&mut Search::open(config(), filter(), Some(&path)).unwrap(), 4);
    let more = run_rungs(&mut Search::open(config(), filter(), Some(&path)).unwrap(), 12);
    assert_eq!(more.iter().filter(|job| job.1 == 1).count(), 8);
    assert_eq!(Search::open(config(), filter(), Some(&path)).unwrap().episodes(), 12);
}

#[test]
fn one_journal_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.jsonl");
    let open = || Search::open(config(StrategyKind::Random, 1), filter(), Some(&path));
    let first = open().unwrap();
    assert!(matches!(open(), Err(SearchError::Journal(JournalError::Running { .. }))));
    drop(first);
    assert!(open().is_ok());
}
