//! The program from outside: what it prints, where, and with which exit status.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs podl in a folder of its own, away from the user's wallets and variables.
fn podl_in(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podl"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("PODL_PASSWORD", "correct horse")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn podl(args: &[&str]) -> Output {
    podl_in(tempfile::tempdir().unwrap().path(), args, "")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one line of an error.
fn error_of(output: &Output) -> String {
    let line = text(&output.stderr);
    assert!(!output.status.success(), "{line}");
    assert!(line.starts_with("error: ") && line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
    line
}

#[test]
fn help_is_as_it_was() {
    for name in [
        "",
        "node",
        "node run",
        "wallet",
        "wallet send",
        "pool payouts",
        "task publish",
        "nas cost",
        "nas train",
        "nas plot",
        "chain spec",
        "model",
        "model export",
        "dataset fetch",
        "dataset inspect",
    ] {
        let args: Vec<&str> = name.split_whitespace().chain(["--help"]).collect();
        let output = podl(&args);
        assert!(output.status.success());
        let label = if name.is_empty() { "podl".into() } else { name.replace(' ', "_") };
        insta::assert_snapshot!(format!("help_{label}"), text(&output.stdout));
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    fn visit(command: &clap::Command, path: &str, leaves: &mut u32) {
        let subcommands: Vec<_> = command.get_subcommands().collect();
        if subcommands.is_empty() {
            *leaves += 1;
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                example.starts_with(&format!("Example: {path} ")) || example == format!("Example: {path}"),
                "{path}"
            );
            assert!(command.get_about().is_some(), "{path}");
        }
        subcommands.iter().for_each(|sub| visit(sub, &format!("{path} {}", sub.get_name()), leaves));
    }
    let mut leaves = 0;
    visit(&podl_node::cli::command(), "podl", &mut leaves);
    assert!(leaves >= 20, "{leaves}");
}

#[test]
fn the_command_tree_is_sound() {
    podl_node::cli::command().debug_assert();
}

#[test]
fn version_names_the_commit() {
    let version = text(&podl(&["--version"]).stdout);
    assert_eq!(version, format!("podl {} ({})\n", podl_node::VERSION, podl_node::COMMIT));
}

#[test]
fn wrong_command_lines_are_one_line_and_status_2() {
    for (args, words) in [
        (vec![], "needs a command: node"),
        (vec!["wallet"], "podl wallet needs a command: new, list"),
        (vec!["wallet", "sned"], "unrecognized subcommand"),
        (vec!["wallet", "send"], "<TO>"),
        (vec!["wallet", "send", "podl1x", "1"], "expected an address"),
        (vec!["pool", "payouts", "--chain-rpc", "127.0.0.1:1"], "--verify"),
        (vec!["pool", "payouts", "--account", "me"], "expected an address"),
        (vec!["nas", "cost", "--lut", "many", "--throughput", "1"], "see `podl nas cost --help`"),
        (vec!["nas", "cost", "--lut", "1"], "--throughput"),
        (vec!["nas", "cost", "--bounds", "loose"], "paper, small, fast"),
        (vec!["node", "status", "--colour"], "--colour"),
        (vec!["model", "export", "m", "--format", "tflite"], "qonnx, card, card-json"),
        (vec!["dataset", "inspect", "mnist"], "unknown data set"),
        (vec!["dataset", "fetch", "imagenet"], "cifar10, mnist, fashion-mnist"),
        (vec!["nas", "train", "a.json", "--epochs", "0"], "--epochs"),
        (
            vec!["nas", "search", "--out", "d", "--strategy", "luck"],
            "predictor, hill-climb, evolution, random, reinforce",
        ),
        (vec!["nas", "train", "a.json", "--device", "gpu"], "expected cpu, cuda or cuda:N"),
    ] {
        let output = podl(&args);
        let line = error_of(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(line.contains(words) && line.contains("--help`"), "{args:?}: {line}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn failures_are_one_line_and_status_1() {
    for (args, words) in [
        (vec!["chain", "spec", "nowhere.toml"], "nowhere.toml"),
        (vec!["node", "status", "--rpc", "127.0.0.1:1"], "no node answers at http://127.0.0.1:1"),
        (vec!["wallet", "balance", "nobody"], "nobody.json"),
        (vec!["wallet", "balance", "dev:seat-9"], "known are seat-0"),
        (vec!["task", "cancel", &"0".repeat(64)], "--data-dir"),
        (vec!["model", "eval", "none.podlmodel", "--dataset", "builtin"], "none.podlmodel"),
        (vec!["dataset", "inspect", "cifar10:nowhere"], "nowhere"),
        (vec!["nas", "train", "{\"layers\":[]}"], "layers"),
        (vec!["nas", "study", "--records", "nowhere.csv"], "nowhere.csv"),
        (vec!["nas", "plot", "nowhere"], "nowhere holds no search"),
        (vec!["chain", "verify", "--data-dir", "nowhere"], "holds no chain"),
        (vec!["chain", "import", "nowhere.blocks", "--data-dir", "d"], "nowhere.blocks"),
        (vec!["node", "run", "--set", "max_pears=3"], "did you mean max_peers?"),
        (vec!["node", "run", "--log", "=x=y="], "the flag --log"),
        (vec!["node", "run", "--wallet", "dev:seat-9", "--data-dir", "d"], "known are seat-0"),
    ] {
        let output = podl(&args);
        let line = error_of(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {line}");
        assert!(line.contains(words), "{args:?}: {line}");
    }
}

#[test]
fn a_cause_is_named_once() {
    let line = error_of(&podl(&["chain", "spec", "nowhere.toml"]));
    assert_eq!(line.matches("No such file").count(), 1, "{line}");
}

#[test]
fn a_wallets_life() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| podl_in(folder.path(), args, "");
    let json = |args: &[&str]| -> serde_json::Value {
        let output = run(args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let made = json(&["wallet", "new", "alice", "--json"]);
    let address = made["address"].as_str().unwrap();
    assert!(error_of(&run(&["wallet", "new", "alice"])).contains("never overwritten"));
    let listed = json(&["wallet", "list", "--json"]);
    assert_eq!((listed["name"].as_str(), listed["address"].as_str()), (Some("alice"), Some(address)));
    assert_eq!(json(&["wallet", "backup", "alice", "copy.json", "--json"])["address"], address);
    assert_eq!(json(&["wallet", "restore", "copy.json", "bob", "--json"])["address"], address);
    std::fs::write(folder.path().join("other.pass"), "another one\n").unwrap();
    let wrong = run(&["wallet", "backup", "alice", "again.json", "--password-file", "other.pass"]);
    assert!(error_of(&wrong).contains("wrong passphrase"));
    assert!(error_of(&run(&["wallet", "new", "dev:seat-0"])).contains("well-known"));
}

#[test]
fn cost_answers_every_line() {
    let layer = r#"{"kernel":[3,3],"filters":36,"stride":[1,1],"pool":2,"act":[1,4],"weight":[1,5]}"#;
    let golden = format!(r#"{{"layers":[{}]}}"#, [layer; 6].join(","));
    let tight = golden.replacen('{', r#"{"throughput_bound":20000,"#, 1);
    let input = format!("{golden}\n{tight}\nnot json\n\n{golden}");
    let args = ["nas", "cost", "--model", "naqs", "--lut", "100000", "--throughput", "1000", "--json"];
    let output = podl_in(tempfile::tempdir().unwrap().path(), &args, &input);
    assert!(error_of(&output).contains("1 of 5 lines"));
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    let answer = r#"{"feasible":true,"lut":99576,"cycles":5832,"throughput":17146.776}"#;
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!((lines[0].as_str(), lines[3].as_str()), (answer, answer));
    assert_eq!(lines[1], r#"{"feasible":false,"lut":0,"cycles":0,"throughput":0.0}"#);
    assert!(lines[2].starts_with(r#"{"line":3,"error":"#), "{}", lines[2]);
    let clean = podl_in(tempfile::tempdir().unwrap().path(), &args, &format!("{golden}\n"));
    assert_eq!((clean.status.code(), text(&clean.stdout)), (Some(0), format!("{answer}\n")));
    assert!(clean.stderr.is_empty());
}

#[test]
fn cost_explains_and_knows_bounds_by_name() {
    let layer = r#"{"kernel":[3,3],"filters":36,"stride":[1,1],"pool":2,"act":[1,4],"weight":[1,5]}"#;
    let golden = format!("{{\"layers\":[{}]}}\n", [layer; 6].join(","));
    let ask = |model: &str, more: &[&str]| {
        let args = [&["nas", "cost", "--model", model], more].concat();
        let output = podl_in(tempfile::tempdir().unwrap().path(), &args, &golden);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let bounds = ["--bounds", "fast"];
    for model in ["naqs", "corrected", "finn"] {
        assert_eq!(ask(model, &bounds), ask(model, &["--lut", "100000", "--throughput", "5000"]));
        let plain = ask(model, &[&bounds[..], &["--json"]].concat());
        let explained = ask(model, &[&bounds[..], &["--json", "--explain"]].concat());
        assert!(explained.starts_with(plain.trim_end().trim_end_matches('}')), "{explained}");
        assert_eq!(explained.lines().count(), 1);
        insta::assert_snapshot!(format!("explain_{model}"), ask(model, &[&bounds[..], &["--explain"]].concat()));
    }
    let tight = ["--bounds", "fast", "--lut", "9000", "--explain"];
    insta::assert_snapshot!("explain_infeasible", ask("corrected", &tight));
    assert!(ask("finn", &bounds).contains("10-30 % off synthesis"));
}

#[test]
fn a_trained_model_evaluates_to_what_training_said() {
    let folder = tempfile::tempdir().unwrap();
    let layer = |filters, pool| {
        format!(r#"{{"kernel":[3,3],"filters":{filters},"stride":[2,2],"pool":{pool},"act":[2,4],"weight":[2,5]}}"#)
    };
    let arch = format!(r#"{{"layers":[{},{}]}}"#, layer(8, 2), layer(8, 2));
    std::fs::write(folder.path().join("arch.json"), arch).unwrap();
    let train = |out: &str, threads: &str| -> serde_json::Value {
        let args = ["nas", "train", "arch.json", "--dataset", "builtin:cli", "--epochs", "1", "--train", "640"];
        let more = ["--threads", threads, "--seed", "7", "--out", out, "--json"];
        let output = podl_in(folder.path(), &[&args[..], &more[..]].concat(), "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (one, two) = (train("one.podlmodel", "1"), train("two.podlmodel", "2"));
    assert_eq!((&one["model_root"], &one["correct"]), (&two["model_root"], &two["correct"]));
    let args = ["model", "eval", "one.podlmodel", "--dataset", "builtin:cli", "--json"];
    let output = podl_in(folder.path(), &args, "");
    let eval: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["model_root", "correct", "images", "accuracy"] {
        assert_eq!(eval[name], one[name], "{name}");
    }
    assert_eq!(eval["images"], 2500);
    assert!(eval["images_per_second"].as_f64().unwrap() > 0.0);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn cuda_needs_a_program_with_cuda() {
    // Said before anything is read: the architecture is not there either.
    let line = error_of(&podl(&["nas", "train", "nowhere.json", "--device", "cuda"]));
    assert!(line.contains("built without CUDA") && line.contains("--features podl-node/cuda"), "{line}");
}

#[test]
fn a_search_is_drawn_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| podl_in(folder.path(), args, "");
    let args = ["nas", "search", "--dataset", "builtin:cli", "--space", "S6", "--layers", "3", "--train", "128"];
    let search = run(&[&args[..], &["--validation", "100", "--episodes", "4", "--out", "s", "--json"]].concat());
    assert!(search.status.success(), "{}", text(&search.stderr));
    let best = text(&search.stdout).lines().last().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let journal = folder.path().join("s/journal.jsonl");
    let whole = std::fs::read_to_string(&journal).unwrap();
    // A line that is being written, as a running or killed search leaves it.
    std::fs::write(&journal, format!("{whole}{{\"episode\":{{\"episo")).unwrap();
    let plot = run(&["nas", "plot", "s", "--json"]);
    assert!(plot.status.success(), "{}", text(&plot.stderr));
    let drawn: serde_json::Value = serde_json::from_slice(&plot.stdout).unwrap();
    assert_eq!((&drawn["episodes"], &drawn["best_reward"]), (&4.into(), &best.unwrap()["best_accuracy"]));
    let front = drawn["front"].as_array().unwrap();
    assert!((1..=4).contains(&front.len()) && front.iter().all(|p| p["lut"].as_u64().unwrap() > 0), "{front:?}");
    let files: Vec<_> = drawn["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert_eq!(files, ["s/reward.svg", "s/reward.png", "s/front.svg", "s/front.png"]);
    for (svg, png) in [(files[0], files[1]), (files[2], files[3])] {
        let svg = std::fs::read_to_string(folder.path().join(svg)).unwrap();
        assert!(svg.contains("<text") && svg.matches("<circle").count() >= 4);
        image::open(folder.path().join(png)).unwrap();
    }
    // Drawing changed nothing, and says what is wrong where something is.
    assert!(std::fs::read_to_string(&journal).unwrap().starts_with(&whole));
    std::fs::write(&journal, whole.replacen("\"reward\":", "\"prize\":", 1)).unwrap();
    assert!(error_of(&run(&["nas", "plot", "s"])).contains("journal.jsonl, line 2: "));
    std::fs::write(&journal, whole.lines().next().unwrap().to_owned() + "\n").unwrap();
    assert!(error_of(&run(&["nas", "plot", "s"])).contains("not finished an episode yet"));
}

#[test]
fn a_search_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let search = |out: &str, episodes: &str, more: &[&str]| -> Vec<String> {
        let args = ["nas", "search", "--dataset", "builtin:cli", "--space", "S6", "--layers", "3", "--train", "256"];
        let rest = ["--validation", "200", "--seed", "3", "--out", out, "--episodes", episodes, "--json"];
        let output = podl_in(folder.path(), &[&args[..], &rest[..], more].concat(), "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let field = |line: &str, name: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[name].to_string();
        let lines = text(&output.stdout);
        lines
            .lines()
            .map(|l| ["episode", "correct", "model_root", "architecture"].map(|n| field(l, n)).join(" "))
            .collect()
    };
    let whole = search("whole", "3", &["--threads", "2"]);
    let first = search("parts", "1", &["--threads", "1"]);
    let rest = search("parts", "3", &[]);
    assert_eq!((whole.len(), first.len(), rest.len()), (3, 1, 2));
    assert_eq!(whole, [first, rest].concat());
    assert!(search("parts", "3", &[]).is_empty());
    assert!(folder.path().join("parts/best.podlmodel").exists());
    let args = ["nas", "search", "--dataset", "builtin:cli", "--space", "S6", "--layers", "3", "--out", "parts"];
    assert!(error_of(&podl_in(folder.path(), &args, "")).contains("holds a search with another"));
}

#[test]
fn a_search_with_rungs_survives_kills() {
    let folder = tempfile::tempdir().unwrap();
    let args = |out| {
        let data = ["nas", "search", "--dataset", "builtin:cli", "--space", "S6", "--layers", "3", "--train", "256"];
        let rest =
            ["--validation", "200", "--episodes", "6", "--rungs", "1,2,4", "--batch", "32", "--json", "--out", out];
        [&data[..], &rest[..]].concat()
    };
    let whole = podl_in(folder.path(), &args("whole"), "");
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let lines = text(&whole.stdout).lines().count();
    assert!(lines > 6, "some networks are trained further");
    let mut reported = 0;
    for _ in 0..lines {
        // Killed a moment after a line, so in the midst of the next training, or of writing its checkpoint.
        let mut child = Command::new(env!("CARGO_BIN_EXE_podl"))
            .args(args("killed"))
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        reported += std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap().min(1);
        std::thread::sleep(std::time::Duration::from_millis(reported as u64 * 7));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let rest = podl_in(folder.path(), &args("killed"), "");
    assert!(rest.status.success(), "{}", text(&rest.stderr));
    for file in ["journal.jsonl", "best.podlmodel", "best.json"] {
        let read = |search: &str| std::fs::read(folder.path().join(search).join(file)).unwrap();
        assert_eq!(read("killed"), read("whole"), "{file}");
    }
}

#[test]
fn a_search_takes_sets_smaller_than_a_batch_and_quantises_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["nas", "search", "--dataset", "builtin:cli", "--space", "S6", "--layers", "3", "--train", "50"];
    let rest = ["--validation", "100", "--episodes", "2", "--quantisation", "post", "--out", "s", "--json"];
    let output = podl_in(folder.path(), &[&data[..], &rest[..]].concat(), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let settings = std::fs::read_to_string(folder.path().join("s/settings.json")).unwrap();
    assert!(settings.contains("\"batch\": 50") && settings.contains("\"precision\": \"float\""), "{settings}");
    let both = podl_in(folder.path(), &["nas", "search", "--out", "t", "--epochs", "2", "--rungs", "1,2"], "");
    assert!(error_of(&both).contains("cannot be used with"), "{}", text(&both.stderr));
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = podl(&["completions", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("wallet"), "{shell}");
    }
}

#[test]
fn init_writes_a_configuration_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = || podl_in(folder.path(), &["node", "init", "--chain", "testnet", "--data-dir", "node"], "");
    assert!(run().status.success());
    let config = std::fs::read_to_string(folder.path().join("node/podl.toml")).unwrap();
    assert!(config.contains("\nchain = \"testnet\"\n"));
    assert!(error_of(&run()).contains("exists already"));
}
