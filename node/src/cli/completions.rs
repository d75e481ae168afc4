//! `podl completions`.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

/// Which shell.
#[derive(Debug, Args)]
#[command(after_help = "Example: podl completions bash > ~/.local/share/bash-completion/completions/podl")]
pub(super) struct CompletionsArgs {
    /// The shell to complete for.
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "podl", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
