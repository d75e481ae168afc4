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
fn a_killed_manager_loses_nothing_and_a_study_repeats() {
    let found = Scenario::ManagerKill.run(&made_up(), 2);
    assert_eq!(found, Scenario::ManagerKill.run(&made_up(), 2));
    let value = |what: &str| found.measures.iter().find(|m| m.measure.starts_with(what)).unwrap().value;
    assert!(value("times") > 5.0 && value("results that waited") > 3.0, "{found:?}");
    for measure in &found.measures {
        assert_ne!(measure.met, Some(false), "{measure:?}");
    }
}

#[test]
fn a_journal_that_loses_its_last_events_is_found_out() {
    let report = robust::killed(&made_up(), 40, 0);
    assert!(report.changed_restores > 0 && report.lost_macs > 0 && report.uncounted_results > 0, "{report:?}");
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
        // What is completed under churn misses its goal (docs/study.md), but not by much.
        if measure.measure.starts_with("leases completed") {
            assert!(measure.value > 0.97, "{measure:?}");
        } else {
            assert_ne!(measure.met, Some(false), "{measure:?}");
        }
    }
}

/// Names of an object's fields.
fn fields(value: &serde_json::Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_json_of_a_study_keeps_its_names() {
    let found = Scenario::ManagerKill.run(&made_up(), 2);
    let json = serde_json::to_value(&found).unwrap();
    let measure = &json["measures"][0];
    assert_eq!(fields(measure), ["goal", "high", "low", "measure", "met", "scenario", "seeds", "value"]);
    assert!(measure["met"].is_boolean() && measure["seeds"].is_u64() && measure["value"].is_number(), "{measure}");
    assert!(json["measures"][3]["goal"].is_null() && json["measures"][3]["met"].is_null(), "no goal");
    let figure = &json["figures"][0];
    assert_eq!(fields(figure), ["name", "shape", "title", "y"]);
    assert_eq!(fields(&figure["shape"]["bars"][0]), ["interval", "label", "value"]);
    let curves = vec![Curve { label: "a".into(), points: vec![[0.0, 1.0]] }];
    let json = serde_json::to_value(Shape::Curves { x: "minutes", curves }).unwrap();
    assert_eq!(fields(&json["curves"]), ["curves", "x"]);
    assert_eq!(fields(&json["curves"]["curves"][0]), ["label", "points"]);
}
