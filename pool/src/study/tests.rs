//! Small studies over the made-up landscape: that scenarios run, repeat, and say what they should.

use std::sync::Arc;

use super::*;
use crate::sim::{Landscape, MadeUp};

fn made_up() -> Arc<dyn Landscape> {
    Arc::new(MadeUp)
}

#[test]
fn scenarios_have_names() {
    for scenario in Scenario::ALL {
        assert_eq!(scenario.name().parse(), Ok(scenario));
    }
    let error = "speed".parse::<Scenario>().unwrap_err();
    assert!(error.contains("expected all, speedup") && error.contains("scale"), "{error}");
}

#[test]
fn a_killed_manager_loses_nothing_verified_and_a_study_repeats() {
    let found = Scenario::ManagerKill.run(&made_up(), 2);
    assert_eq!(found, Scenario::ManagerKill.run(&made_up(), 2));
    let measures = found.measures;
    assert_eq!(measures[0].met, Some(true), "{measures:?}");
    assert!(measures[1].value > 5.0, "{measures:?}");
}

#[test]
fn cheats_do_not_pay() {
    for measure in Scenario::Cheats.run(&made_up(), 2).measures {
        assert_eq!(measure.met, Some(true), "{measure:?}");
    }
}

#[test]
fn churn_leaves_little_undone() {
    for measure in Scenario::Churn.run(&made_up(), 2).measures {
        assert_ne!(measure.met, Some(false), "{measure:?}");
    }
}
