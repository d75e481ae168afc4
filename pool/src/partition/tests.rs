use podl_consensus::workload::{Architecture, Setting, Space};
use proptest::prelude::*;

use super::*;

fn subset(values: Vec<u16>) -> impl Strategy<Value = Vec<u16>> {
    proptest::sample::subsequence(values.clone(), 1..=values.len())
}

/// Small spaces of one or two layers, whose networks fit 128 bits.
fn spaces() -> impl Strategy<Value = Space> {
    let full = Space::full(1);
    let lists: Vec<_> = Setting::ALL.iter().map(|setting| subset(setting.values(&full))).collect();
    (1u8..=2, lists).prop_map(|(conv_layers, lists)| {
        let mut space = Space::full(conv_layers);
        for (setting, list) in Setting::ALL.iter().zip(&lists) {
            setting.set_values(&mut space, list);
        }
        space
    })
}

proptest! {
    #[test]
    fn disjoint_boxes_cover_the_space_exactly_once(space in spaces(), boxes in 1usize..30) {
        let whole = Subspace::whole(space.clone());
        prop_assume!(!whole.is_empty());
        let parts = disjoint(&space, boxes);
        prop_assert!(parts.len() <= boxes);
        for (i, part) in parts.iter().enumerate() {
            for other in &parts[i + 1..] {
                prop_assert!(part.intersection(other).is_none());
            }
        }
        let sum = parts.iter().fold(Count::default(), |sum, part| sum.plus(&part.cardinality()));
        prop_assert_eq!(&sum, &Count::from(space.cardinality()));
        prop_assert_eq!(union_cardinality(&parts), sum);
        prop_assert!(parts.len() == boxes || space.cardinality() < 1000, "only small spaces give fewer boxes");
    }

    #[test]
    fn every_network_is_in_exactly_one_box(space in spaces(), seed: u64) {
        let whole = Subspace::whole(space.clone());
        prop_assume!(!whole.is_empty());
        let mut rng = SeededRng::new(&seed.to_le_bytes(), "test");
        let network = whole.draw(&mut rng).unwrap();
        prop_assert!(whole.contains(&network));
        let parts = disjoint(&space, 9);
        prop_assert_eq!(parts.iter().filter(|p| p.contains(&network)).count(), 1);
    }

    #[test]
    fn algorithm1_draws_non_empty_parts(space in spaces(), miners in 1usize..10, seed: u64) {
        prop_assume!(!Subspace::whole(space.clone()).is_empty());
        let mut rng = SeededRng::new(&seed.to_le_bytes(), "test");
        let parts = algorithm1(&space, miners, &mut rng);
        prop_assert_eq!(parts.len(), miners);
        for part in &parts {
            prop_assert!(!part.is_empty());
        }
        prop_assert!(union_cardinality(&parts) <= Count::from(space.cardinality()));
    }

    #[test]
    fn unions_count_each_network_once(space in spaces(), seed: u64) {
        let mut space = space;
        space.conv_layers = 1;
        space.filters.truncate(2);
        space.stride_height.truncate(1);
        space.stride_width.truncate(1);
        space.kernel_height.truncate(2);
        space.kernel_width.truncate(2);
        space.act_frac.truncate(2);
        space.weight_frac.truncate(2);
        prop_assume!(!Subspace::whole(space.clone()).is_empty());
        let mut rng = SeededRng::new(&seed.to_le_bytes(), "test");
        let parts = algorithm1(&space, 4, &mut rng);
        let counted = enumerate(&space).iter().filter(|a| parts.iter().any(|p| p.contains(a))).count();
        prop_assert_eq!(union_cardinality(&parts), Count::from(counted as u128));
    }
}

/// Every network of a space of one layer.
fn enumerate(space: &Space) -> Vec<Architecture> {
    let mut rng = SeededRng::new(b"", "start");
    let mut all = vec![Subspace::whole(space.clone()).draw(&mut rng).unwrap()];
    for setting in Setting::ALL {
        all = all
            .into_iter()
            .flat_map(|network| {
                setting.values(space).into_iter().map(move |value| {
                    let mut network = network.clone();
                    setting.set(&mut network.layers[0], value);
                    network
                })
            })
            .collect();
    }
    all.retain(|a| space.contains(a));
    all
}

#[test]
fn nine_boxes_of_the_paper_space_cut_only_kernels() {
    let space = Space::full(6);
    let parts = disjoint(&space, 9);
    assert_eq!(parts.len(), 9);
    assert!(
        parts.iter().flat_map(|p| &p.cuts).all(|c| matches!(c.setting, Setting::KernelWidth | Setting::KernelHeight))
    );
    // No box has all its kernels of 1 in a cut setting.
    assert!(parts.iter().flat_map(|p| &p.cuts).all(|c| c.values.iter().any(|&v| v >= 3)));
    // The full space of 6 layers has more networks than 128 bits can count.
    let networks = Subspace::whole(space.clone()).cardinality();
    assert_eq!(networks.to_string(), "268599008592779114357666015625000000000000");
    assert_eq!(union_cardinality(&parts), networks, "the boxes cover each of them once");
}

/// The design's 1.5 % is a mean: a draw that happens to keep long ranges covers several times as much.
#[test]
fn algorithm1_covers_one_and_a_half_percent_of_the_settings_on_average() {
    let space = Space::full(1);
    let total = Count::from(space.cardinality());
    let draw = |seed: u32| algorithm1(&space, 9, &mut SeededRng::new(&seed.to_le_bytes(), "test"));
    let mut shares: Vec<f64> = (0..4000).map(|seed| union_cardinality(&draw(seed)).share_of(&total)).collect();
    shares.sort_by(f64::total_cmp);
    // 20,000 draws: mean 1.489 %, with a standard error of .007.
    let mean = shares.iter().sum::<f64>() / 4000.0;
    assert!((0.0144..0.0154).contains(&mean), "{mean}");
    let [middle, of_twenty, most] = [2000, 3800, 3999].map(|at| shares[at]);
    assert!((0.012..0.014).contains(&middle), "half of the draws cover less: {middle}");
    assert!((0.028..0.034).contains(&of_twenty), "one in twenty covers more: {of_twenty}");
    assert!((0.06..0.25).contains(&most), "{most}");
}

#[test]
fn unions_of_many_parts_of_a_small_space_are_counted_at_once() {
    let mut space = Space::full(1);
    for setting in Setting::ALL {
        let values = setting.values(&space);
        let is_searched = matches!(setting, Setting::KernelHeight | Setting::KernelWidth | Setting::Filters);
        setting.set_values(&mut space, if is_searched { &values[..3] } else { &values[values.len() - 1..] });
    }
    let parts = algorithm1(&space, 81, &mut SeededRng::new(b"many", "test"));
    let counted = enumerate(&space).iter().filter(|a| parts.iter().any(|p| p.contains(a))).count();
    assert_eq!(union_cardinality(&parts), Count::from(counted as u128));
}

#[test]
fn schemes_have_names() {
    for scheme in Scheme::ALL {
        assert_eq!((scheme.name().parse(), scheme.to_string().as_str()), (Ok(scheme), scheme.name()));
    }
    assert_eq!(Scheme::ALL.map(Scheme::name), ["whole", "disjoint", "algorithm1", "paper-table"]);
    assert_eq!("papertable".parse::<Scheme>(), Err("expected one of whole, disjoint, algorithm1, paper-table".into()));
    assert_eq!(Scheme::default(), Scheme::Whole);
}

#[test]
fn the_papers_table_lies_in_the_space_as_far_as_it_can() {
    let space = Space::full(1);
    let parts = paper_table(&space);
    assert_eq!(parts.len(), 9);
    assert!(parts.iter().all(|part| part.intersection(&Subspace::whole(space.clone())).as_ref() == Some(part)));
    // What of the settings of a layer the nine cover together, exactly.
    let (covered, total) = (union_cardinality(&parts), Count::from(space.cardinality()));
    assert!(covered.share_of(&total) < 0.25, "{covered} of {total}");
}

#[test]
fn halving_keeps_the_best_boxes() {
    let parts = disjoint(&Space::full(2), 9);
    let mut halving = Halving::new(parts, 1, true);
    let mut leased = Vec::new();
    for _ in 0..9 {
        leased.push(halving.lease_next().unwrap());
    }
    leased.sort_unstable();
    assert_eq!(leased, (0..9).collect::<Vec<_>>(), "every box once before any twice");
    for (i, count) in [10, 80, 30, 20, 70, 15, 60, 12].into_iter().enumerate() {
        assert!(!halving.note(i, count));
    }
    assert!(halving.note(8, 11));
    assert_eq!(halving.active(), [1, 4, 6]);
    for i in [1, 4] {
        assert!(!halving.note(i, 81 + i as u32));
    }
    assert!(halving.note(6, 90));
    assert_eq!(halving.active(), [6]);
    assert!(!halving.note(6, 95), "a single box is never left");
    let mut halving = Halving::new(disjoint(&Space::full(2), 3), 1, true);
    halving.note_proposed(0, false);
    assert!(!halving.note(1, 10), "a box without anything is not waited for, but others are");
    assert!(halving.note(2, 20) && halving.active() == [2]);
    assert_eq!([1, 2, 3, 5, 9, 10, 1000].map(boxes_for), [1, 3, 3, 9, 9, 27, 81]);
}
