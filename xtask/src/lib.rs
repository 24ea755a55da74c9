//! What the project's own commands are made of; the end-to-end tests build plugins with it. Each task is a file with
//! one public `run`.
//!
//! Light on purpose: it is compiled before anything else, and depends on nothing that the runner is made of.

#![expect(clippy::print_stdout, reason = "commands print what they do")]

pub mod bench;
pub mod cargo;
pub mod codegen;
pub mod demo;
pub mod dist;
pub mod elsewhere;
pub mod freeze;
mod http;
mod links;
pub mod lint;
mod messages;
pub mod plugins;
mod running;
pub mod sanitize;
pub mod test;
pub mod tidy;
pub mod torture;
pub mod walk;

use anyhow::{Result, bail};

/// Complains about arguments that a task does not know.
fn no_more(task: &str, arguments: &[String]) -> Result<()> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => bail!("`cargo xtask {task}` does not know `{argument}`"),
    }
}
