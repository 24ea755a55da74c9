//! The command line: what may be typed, and which module does it. Does nothing itself.

mod ask;
mod call;
mod check;
mod completions;
mod explain;
mod hold;
mod list;
mod log_level;
mod new;
mod release;
mod reload;
mod start;
mod status;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use plugin_api::{ABI_MAJOR, ABI_MINOR};

use crate::supervise::rehearsal;
use crate::{dev, exit};
pub use list::{List, Place, Schema};
pub use new::New;
pub use start::Start;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (plugin ABI {ABI_MAJOR}.{ABI_MINOR})")
});

/// With what people ask next when a library does not load.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let (rustc, target) = (env!("BUILD_RUSTC"), env!("BUILD_TARGET"));
    format!("{}\nbuilt by: {rustc}\ntarget:   {target}", *VERSION)
});

/// Runs plugins from native libraries (.so files) for an API gateway.
///
/// The gateway starts it as its child and asks it over a Unix socket which plugins a request
/// meets. A library that is put into the plugins folder serves; one that is replaced is swapped
/// while requests flow.
#[derive(Debug, Parser)]
#[command(name = "plugin-runner", version = VERSION.as_str(), long_version = LONG_VERSION.as_str())]
#[command(after_help = "Type `plugin-runner help start` for the options of `start`.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(visible_alias = "run")]
    Start(Start),
    Status(status::Show),
    Reload(reload::Reload),
    #[command(name = "rollback")]
    RollBack(hold::RollBack),
    Quarantine(hold::Quarantine),
    Release(release::Release),
    LogLevel(log_level::SetLevel),
    New(New),
    Check(check::Check),
    Call(call::CallOne),
    /// Serve HTTP as the gateway would, for trying plugins without one
    Dev(dev::Options),
    List(List),
    Explain(explain::Explain),
    Schema(Schema),
    Completions(completions::Completions),
    /// The process that runs plugin code; started by `start`.
    #[command(hide = true)]
    Worker,
    /// The process in which a new library is tried; started by `start`.
    #[command(hide = true)]
    Probe,
    /// The process in which `call` and `check` run plugins.
    #[command(hide = true)]
    Rehearsal,
}

/// The arguments of this process.
///
/// # Errors
/// The code to end with, after help, version or the fault was printed.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // Fails only if nobody reads it.
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::from(exit::USAGE)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// Does what was asked for; returns when it is done.
///
/// # Errors
/// What is to be told, with its causes.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Start(start) => start.run(),
        Command::Check(check) => check.run(),
        Command::Call(call) => call.run(),
        Command::New(new) => new.run(),
        Command::Dev(options) => dev::run(options),
        Command::List(list) => list.run(),
        Command::Schema(schema) => schema.run(),
        Command::Explain(explain) => explain.run(),
        Command::Status(status) => status.run(),
        Command::Reload(reload) => reload.run(),
        Command::Release(release) => release.run(),
        Command::RollBack(rollback) => rollback.run(),
        Command::Quarantine(quarantine) => quarantine.run(),
        Command::LogLevel(level) => level.run(),
        Command::Completions(completions) => completions.run(),
        Command::Worker => start::worker(),
        Command::Probe => start::probe(),
        Command::Rehearsal => rehearsal::main(),
    }
}

/// Writes a result to stdout. A reader that went away is no error.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Whether stdout takes colours: a terminal does, unless `NO_COLOR` (no-color.org) or `TERM=dumb` says otherwise.
fn colours() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !plain
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_another_word_for_start() {
        for command in ["start", "run"] {
            let line = ["plugin-runner", command, "--plugins", "p", "--test"];
            let Command::Start(start) = Cli::try_parse_from(line).unwrap().command else {
                panic!("{command} is not start")
            };
            assert_eq!(start.plugins, Some("p".into()));
            assert!(start.test);
        }
    }

    #[test]
    fn the_version_names_the_plugin_abi() {
        let mut command = Cli::command();
        let version = command.render_version();
        assert_eq!(version, "plugin-runner 0.1.0 (plugin ABI 1.0)\n");
        let long = command.render_long_version();
        assert!(long.contains("built by: rustc 1."), "{long}");
        assert!(!command.render_help().to_string().contains("worker"));
    }
}
