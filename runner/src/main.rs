//! Reads the command line, does what it says, tells the last error, ends with its code.

use std::process::ExitCode;

use plugin_runner::{cli, exit};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
