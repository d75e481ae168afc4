//! clap's messages, cut down to one line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;
use clap::error::ErrorKind;

use super::one_line;

/// Exit status of a wrong command line, as most programs have it.
const USAGE: u8 = 2;

/// Prints help and version as they are, and everything else as one line. `args` are those that were given.
pub(super) fn report(error: &clap::Error, command: &Command, args: &[OsString]) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe (`podl --help | head -1`) is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    super::report(&line(error, command, args));
    ExitCode::from(USAGE)
}

/// The command that the arguments reach, with its full name.
fn reached<'a>(command: &'a Command, args: &[OsString]) -> (&'a Command, String) {
    let (mut command, mut name) = (command, command.get_name().to_owned());
    for arg in args.iter().skip(1) {
        if let Some(next) = arg.to_str().and_then(|arg| command.find_subcommand(arg)) {
            command = next;
            name = format!("{name} {}", next.get_name());
        }
    }
    (command, name)
}

/// The message of an error without usage and hints on other lines, and where to read on.
fn line(error: &clap::Error, command: &Command, args: &[OsString]) -> String {
    let (command, name) = reached(command, args);
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            format!("{name} needs a command: {}", names.join(", "))
        }
        _ => {
            let text = error.render().to_string();
            let kept = text.lines().map(str::trim).filter(|line| {
                !line.is_empty() && !line.starts_with("Usage: ") && !line.starts_with("For more information")
            });
            one_line(&kept.collect::<Vec<_>>().join("; ")).replace(":; ", ": ")
        }
    };
    format!("{message}; see `{name} --help`")
}
