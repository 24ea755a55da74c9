//! `new`: from arguments to the crate of a plugin, and what to type next.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::config::{self, Sources};
use crate::exit::Failure;
use crate::new::{self, Api, NewError, Order, Phase};
use crate::supervise::shelf::Shelf;

const EXAMPLES: &str = "\
Examples:
  A plugin that works on requests, in ./require-key:
    plugin-runner new require-key

  One that works on responses, with plugin-api from a folder of this machine:
    plugin-runner new add-notice --phase header_filter,body_filter --api-path ../plugin-runner/plugin-api

Exit codes: 0 made, 1 not made, 64 wrong arguments or name.";

/// Make the crate of a new plugin: it compiles, has a test and serves
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct New {
    /// Name of the plugin, its package and its folder: small letters, digits and `-`
    pub name: String,
    /// The phases that it has, several with a comma between them [default: access]
    #[arg(
        long = "phase",
        value_name = "PHASE",
        value_enum,
        value_delimiter = ','
    )]
    pub phases: Vec<Phase>,
    /// Take plugin-api from this folder (its own, or the project's). Without --api-path and --api-git: from the folder
    /// `plugin-api` beside this executable or above it (the archive and a checkout have one), else from the registry
    #[arg(long, value_name = "DIR", conflicts_with = "api_git")]
    pub api_path: Option<PathBuf>,
    /// Take plugin-api from this git repository
    #[arg(long, value_name = "URL")]
    pub api_git: Option<String>,
    /// Refuse a name that a library in this folder has
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let parent = std::env::current_dir().context("cannot tell the working directory")?;
        let api = self.api(&parent)?;
        self.look_for_the_name()?;
        let order = Order {
            name: self.name,
            phases: self.phases,
            api,
            parent,
        };
        new::create(&order).map_err(|error| failure(&order, error))?;
        super::say(&next_steps(&order));
        Ok(())
    }

    fn api(&self, parent: &Path) -> anyhow::Result<Api> {
        let api = match (&self.api_path, &self.api_git) {
            (Some(folder), _) => Api::path(folder, parent),
            (None, Some(address)) => Api::git(address),
            (None, None) => Ok(Api::found()),
        };
        let hint =
            "--api-path takes the folder `plugin-api` of a checkout, --api-git the address of one";
        Ok(api.map_err(|error| Failure::new(error.to_string()).hint(hint).usage())?)
    }

    /// Among the libraries of the folder that was named.
    fn look_for_the_name(&self) -> anyhow::Result<()> {
        let Some(plugins) = &self.plugins else {
            return Ok(());
        };
        let sources = Sources::of_process(None, Some(plugins.clone()))
            .context("cannot tell where this process runs")?;
        let config = config::load(&sources).context("the configuration is not usable")?;
        let shelf = Shelf::read(&config)?;
        match shelf.named(&self.name) {
            None => Ok(()),
            Some(offer) => {
                let (name, file) = (&self.name, offer.file.display());
                let taken = format!("there is a plugin `{name}` already, in {file}");
                Err(Failure::new(taken)
                    .hint("of two libraries that offer one name, neither serves: choose another")
                    .usage()
                    .into())
            }
        }
    }
}

fn failure(order: &Order, error: NewError) -> anyhow::Error {
    let failure = Failure::new(format!("there is no new plugin `{}`", order.name));
    match error {
        NewError::Name(_) => failure.because(error).usage().into(),
        NewError::Exists(_) => failure
            .because(error)
            .hint("choose another name, or remove what is there")
            .into(),
        NewError::Write { .. } => failure.because(error).into(),
    }
}

fn next_steps(order: &Order) -> String {
    let name = &order.name;
    let file = name.replace('-', "_");
    let mut text = format!(
        "The plugin `{name}` is in ./{name}. Next:

  cd {name}
  cargo test                                         # its own test, without a runner
  plugin-runner dev --crate .                        # build on every save, serve on http://127.0.0.1:9080
  cargo build --release
  plugin-runner check target/release/lib{file}.so"
    );
    if order.api == Api::Registry {
        text += &format!("\n
No folder `plugin-api` lies beside this program or above it, so plugin-api is to come from the registry, as
`gateway-plugin-api`. Where the registry does not have it: remove ./{name} and give --api-path DIR, the folder that the
archive of plugin-runner and its checkout have, or --api-git URL.");
    }
    text
}
