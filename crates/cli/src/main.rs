//! The `modelferry` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Exit codes are below 256: the table in `ErrorKind`, and 128 + signal.
    ExitCode::from(u8::try_from(modelferry_cli::run(std::env::args_os())).unwrap_or(1))
}
