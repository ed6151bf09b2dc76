//! The `orx` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    orx::cli::run()
}
