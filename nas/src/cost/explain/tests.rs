use podl_consensus::workload::{Architecture, DenseConfig, InputShape, Network};
use proptest::prelude::*;

use super::super::finn::{Memory, Pipeline};
use super::super::tests::{any_network, golden};
use super::super::{CLOCK_HZ, CostModel, evaluate};
use super::*;

fn corrected(architecture: &Architecture, bounds: Bounds) -> Explanation {
    Explanation::of_mapping(CostModel::Corrected, architecture, InputShape::CIFAR, bounds).unwrap()
}

fn finn(architecture: &Architecture, bounds: Bounds) -> Explanation {
    let network = Network::new(architecture, InputShape::CIFAR, 10, DenseConfig::default()).unwrap();
    Explanation::of_pipeline(&Pipeline::new(&network, Memory::default()).unwrap(), bounds)
}

#[test]
fn every_verdict_by_both_kinds_of_model() {
    for explain in [corrected, finn] {
        let free = explain(&golden(), Bounds { lut: 1 << 40, throughput: 0 });
        assert_eq!(free.verdict, Verdict::Feasible);
        let (smallest, fastest) = (free.smallest, free.fastest);
        let at = |lut, throughput| explain(&golden(), Bounds { lut, throughput });

        let large = at(smallest.lut - 1, 1);
        assert_eq!((large.verdict, large.at_lut_bound, &large.design), (Verdict::TooLarge, None, &None));
        let slow = at(1 << 40, CLOCK_HZ / fastest.cycles + 1);
        assert_eq!((slow.verdict, slow.lut_needed), (Verdict::TooSlow, None));
        assert_eq!(slow.at_lut_bound.unwrap().cycles, fastest.cycles);

        let both = at(smallest.lut, 5_000);
        assert_eq!(both.verdict, Verdict::NotBoth);
        let needed = both.lut_needed.unwrap();
        assert_eq!((at(needed, 5_000).verdict, at(needed - 1, 5_000).verdict), (Verdict::Feasible, Verdict::NotBoth));
        assert!(both.at_lut_bound.unwrap().cycles > CLOCK_HZ / 5_000);
    }
}

#[test]
fn the_golden_networks_groups() {
    let explanation = corrected(&golden(), Bounds { lut: 100_000, throughput: 1_000 });
    let Some(Parts::Groups(groups)) = &explanation.design else { panic!("no groups") };
    let cycles: u64 = groups.iter().map(|group| group.cycles).sum();
    assert_eq!(cycles, explanation.answer.cycles);
    assert_eq!(groups.iter().map(|group| group.lut).max(), Some(explanation.answer.lut));
    assert_eq!((groups[0].first, groups[groups.len() - 1].last), (0, 5));
}

#[test]
fn the_first_layer_caps_the_golden_network() {
    // 34 x 34 padded positions of a 3 x 3 kernel.
    let explanation = corrected(&golden(), Bounds { lut: 100_000, throughput: 10_000 });
    assert_eq!((explanation.fastest.layer, explanation.fastest.cycles), (0, 34 * 34 * 9));
    assert_eq!(explanation.verdict, Verdict::TooSlow);
    assert_eq!(explanation.bottleneck.unwrap().layer, 0);
}

#[test]
fn the_json_form() {
    let explanation = finn(&golden(), Bounds { lut: 5_512, throughput: 1_000 });
    let json = serde_json::to_value(&explanation).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "feasible",
        "lut",
        "cycles",
        "throughput",
        "lut_bound",
        "throughput_bound",
        "verdict",
        "smallest",
        "fastest",
        "lut_needed",
        "at_lut_bound",
        "design",
        "bottleneck",
    ];
    expected.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(json["verdict"], "not_both");
    assert_eq!(json["lut_needed"], 9_549);
    assert_eq!(json["at_lut_bound"]["lut"], 5_512);
    assert_eq!(json["design"]["units"][1]["unit"], "matrix_vector");
    assert_eq!(json["bottleneck"], serde_json::json!({ "part": 4, "layer": 1, "cycles": 2_985_984 }));
}

proptest! {
    /// An explanation answers as the model does, and its figures agree with each other.
    #[test]
    fn explanations_do_not_contradict_the_model(
        architecture in any_network(),
        lut in 1u64..200_000,
        throughput in 0u64..20_000,
        naqs in any::<bool>(),
    ) {
        let model = if naqs { CostModel::Naqs } else { CostModel::Corrected };
        let bounds = Bounds { lut, throughput };
        let explanation = Explanation::of_mapping(model, &architecture, InputShape::CIFAR, bounds).unwrap();
        let cost = evaluate(model, &architecture, InputShape::CIFAR, bounds).unwrap();
        prop_assert_eq!(explanation.answer, Answer::new(cost));
        prop_assert_eq!(explanation.verdict == Verdict::Feasible, cost.is_some());
        for explanation in [explanation, finn(&architecture, bounds)] {
            let is_feasible = explanation.answer.feasible;
            if let Some(needed) = explanation.lut_needed {
                prop_assert_eq!(needed <= lut, is_feasible);
            }
            prop_assert_eq!(explanation.at_lut_bound.is_none(), explanation.verdict == Verdict::TooLarge);
            if let Some(found) = explanation.at_lut_bound {
                prop_assert!(found.lut <= lut && found.cycles >= explanation.fastest.cycles);
                let is_fast = Cost { lut: 0, cycles: found.cycles }.is_faster_than(throughput);
                prop_assert_eq!(is_fast, is_feasible);
            }
            prop_assert_eq!(explanation.design.is_some(), explanation.bottleneck.is_some());
        }
    }
}
