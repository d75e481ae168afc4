//! Puts the commit that is built into the program: `PODL_BUILD_COMMIT` where that is set, else what the git checkout
//! says. Set it to anything while you work: following git, every commit would compile this crate and its tests again.

use std::path::Path;
use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PODL_BUILD_COMMIT");
    if let Ok(commit) = std::env::var("PODL_BUILD_COMMIT") {
        println!("cargo:rustc-env=PODL_COMMIT={commit}");
        return;
    }
    // HEAD moves with a checkout, the branch's own file or the packed list with a commit.
    for name in ["HEAD", "logs/HEAD", "packed-refs"] {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|p| Path::new(p).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=PODL_COMMIT={commit}");
}
