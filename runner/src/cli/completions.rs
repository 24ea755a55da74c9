//! `completions`: what a shell needs to know to complete our command line.

use std::io::{self, Write as _};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

const EXAMPLES: &str = "\
Examples:
  plugin-runner completions bash > ~/.local/share/bash-completion/completions/plugin-runner
  plugin-runner completions fish > ~/.config/fish/completions/plugin-runner.fish
  plugin-runner completions zsh > DIR/_plugin-runner, with a DIR of $fpath";

/// Write the completions of a shell to standard output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "plugin-runner", &mut text);
        // A reader that went away is no error.
        let _ = io::stdout().write_all(&text);
        Ok(())
    }
}
