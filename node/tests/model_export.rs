//! `podl model export` and `eval` from outside, on a model trained here.

use std::path::Path;
use std::process::{Command, Output};

const ARCH: &str = r#"{"layers":[{"kernel":[3,2],"filters":6,"stride":[2,3],"pool":2,"act":[2,3],"weight":[1,0]}]}"#;

fn podl(folder: &Path, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_podl");
    Command::new(program).args(args).current_dir(folder).env_clear().env("HOME", folder).output().unwrap()
}

fn json(folder: &Path, args: &[&str]) -> serde_json::Value {
    let output = podl(folder, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(folder: &Path, args: &[&str]) -> String {
    let output = podl(folder, args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && line.lines().count() == 1, "{line}");
    line
}

/// A folder with a trained `m.podlmodel`.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let args = ["nas", "train", ARCH, "--epochs", "1", "--train", "256", "--out", "m.podlmodel"];
    json(folder.path(), &args);
    folder
}

fn provenance(root: &serde_json::Value, entry: i16) -> String {
    let hash = "ab".repeat(32);
    let table = vec![vec![entry; 256]; 3];
    let task = serde_json::json!({
        "id": hash, "name": "cats", "data_root": hash, "bounds": { "lut": 100_000, "throughput": 1_000 }, "input_table": table,
    });
    serde_json::json!({ "model_root": root, "chain_name": "dev", "task": task }).to_string()
}

#[test]
fn graphs_cards_and_classes_of_a_trained_model() {
    let folder = trained();
    let at = folder.path();
    let graph = ["model", "export", "m.podlmodel", "--format", "qonnx"];
    assert!(error(at, &graph).contains("give --dataset"));
    let with_data = [&graph[..], &["--dataset", "builtin"]].concat();
    let written = json(at, &with_data);
    assert_eq!((&written["file"], &written["input"]), (&"m.onnx".into(), &"pixels_computed".into()));
    assert_eq!(std::fs::metadata(at.join("m.onnx")).unwrap().len(), written["bytes"].as_u64().unwrap());
    assert!(error(at, &with_data).contains("a new file m.onnx"));
    assert_eq!(json(at, &[&graph[..], &["--input", "values", "--out", "v.onnx"]].concat())["input"], "values");

    let eval = ["model", "eval", "m.podlmodel", "--dataset", "builtin", "--classes", "c", "--images", "i"];
    let evaluated = json(at, &eval);
    let classes = std::fs::read_to_string(at.join("c")).unwrap();
    assert_eq!((classes.lines().count(), std::fs::metadata(at.join("i")).unwrap().len()), (2500, 2500 * 3072));
    assert!(error(at, &eval).contains("a new file c"));

    let card = ["model", "export", "m.podlmodel", "--format", "card-json", "--dataset", "builtin", "--bounds", "fast"];
    let card = json(at, &card);
    assert_eq!(card["evaluation"]["correct"], evaluated["correct"]);
    assert_eq!(card["model_root"], written["model_root"]);
    assert_eq!(card["cost"]["bounds"]["throughput"], 5000);
    assert!(card["layers"].as_array().unwrap().len() == 3 && card.get("provenance").is_none());
}

#[test]
fn what_lies_beside_a_model_is_taken_up() {
    let folder = trained();
    let at = folder.path();
    let card = ["model", "export", "m.podlmodel", "--format", "card-json"];
    let bare = json(at, &card);
    assert!(bare.get("cost").is_none() && bare.get("input_table").is_none());
    let beside = at.join("m.provenance.json");
    std::fs::write(&beside, provenance(&bare["model_root"], 5)).unwrap();
    let known = json(at, &card);
    assert_eq!((&known["provenance"]["task"]["name"], &known["input_table"][2][255]), (&"cats".into(), &5.into()));
    assert_eq!(known["cost"]["bounds"]["lut"], 100_000);
    let text = podl(at, &["model", "export", "m.podlmodel", "--format", "card"]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("| task | cats ("));
    // All images are one to this table, whatever the data set says.
    json(at, &["model", "eval", "m.podlmodel", "--dataset", "builtin", "--classes", "c"]);
    let classes = std::fs::read_to_string(at.join("c")).unwrap();
    assert!(classes.lines().all(|class| classes.lines().next() == Some(class)));

    std::fs::write(&beside, provenance(&"cd".repeat(32).into(), 5)).unwrap();
    assert!(error(at, &card).contains("is about model cdcd"));
    std::fs::write(&beside, "{}").unwrap();
    assert!(error(at, &card).contains("does not say where a model comes from"));
}

#[test]
fn wrong_files_and_choices_are_one_line() {
    let folder = trained();
    let at = folder.path();
    let export =
        |file: &'static str, more: &[&'static str]| [&["model", "export", file, "--format", "qonnx"], more].concat();
    assert!(error(at, &export("none.podlmodel", &[])).contains("cannot read the model none.podlmodel"));
    std::fs::write(at.join("text"), "no model at all, but longer than a header").unwrap();
    assert!(error(at, &export("text", &[])).contains("text is not a model"));
    assert!(error(at, &export("m.podlmodel", &["--normalisation", "task"])).contains("podl model fetch"));
    assert!(error(at, &export("m.podlmodel", &["--normalisation", "dataset"])).contains("give --dataset"));
}
