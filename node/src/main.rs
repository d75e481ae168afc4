//! The program `podl`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    podl_node::cli::main(std::env::args_os())
}
