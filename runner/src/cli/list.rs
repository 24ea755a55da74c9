//! `list` and `schema`: what the libraries of a folder say of themselves, or what a running runner has loaded of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::ask;
use crate::config::{self, Config, Sources};
use crate::exit::Failure;
use crate::supervise::admin::client::{self, AskError};
use crate::supervise::admin::message::{Answer, Plugin, Request, Status};
use crate::supervise::shelf::{Offer, Shelf};
use crate::supervise::workshop::Described;

/// Where the plugins are.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The configuration; without it the one that `start` would find
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder with the plugin libraries; wins over `plugins.dir` of the configuration
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  What the running runner has loaded; if none runs, what lies in its plugins folder:
    plugin-runner list

  What a folder holds:
    plugin-runner list --plugins /srv/plugins";

/// Show the plugins that a running runner has loaded, or those of a folder, in the order of their priority
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct List {
    /// Everything that is known of each, as JSON, with the schemas of their configurations
    #[arg(long)]
    pub json: bool,
    /// The process id of the runner, if there are several
    #[arg(long, value_name = "PID", conflicts_with = "plugins")]
    pub pid: Option<u32>,
    #[command(flatten)]
    pub place: Place,
}

/// Print the JSON Schema of a plugin's configuration
#[derive(Debug, Args)]
pub struct Schema {
    /// The plugin's name
    pub plugin: String,
    #[command(flatten)]
    pub place: Place,
}

impl Place {
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        let sources = Sources::of_process(self.config.clone(), self.plugins.clone())
            .context("cannot tell where this process runs")?;
        config::load(&sources).context("the configuration is not usable")
    }
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(status) = self.running()? {
            return print_running(&status, self.json);
        }
        let shelf = Shelf::read(&self.place.load()?)?;
        if self.json {
            return self.print_json(&shelf);
        }
        super::say(&table(&shelf));
        for unusable in &shelf.unusable {
            let hint = unusable.refusal.hint.as_deref();
            let hint = hint.map_or(String::new(), |hint| format!("\n  hint: {hint}"));
            let (file, cause) = (unusable.file.display(), &unusable.refusal.cause);
            super::say(&format!("\n{file} cannot serve: {cause}{hint}"));
        }
        Ok(())
    }

    /// How the runner is that is meant; `None`: a folder was named, or no runner runs.
    fn running(&self) -> anyhow::Result<Option<Box<Status>>> {
        if self.place.plugins.is_some() {
            return Ok(None);
        }
        let mut sources = Sources::of_process(self.place.config.clone(), None)
            .context("cannot tell where this process runs")?;
        sources.needs_plugins = false;
        let config = config::load(&sources).context("the configuration is not usable")?;
        let request = match self.json {
            true => Request::Plugins,
            false => Request::Status,
        };
        match client::ask(&config, self.pid, &request) {
            Ok(Answer::Status(status)) => Ok(Some(status)),
            Ok(_) => Err(Failure::new("the runner answered another question").into()),
            Err(AskError::NotFound(None)) => Ok(None),
            Err(error) => Err(ask::failure(error).into()),
        }
    }

    fn print_json(&self, shelf: &Shelf) -> anyhow::Result<()> {
        let mut all = serde_json::to_value(shelf)?;
        for (offer, json) in shelf
            .plugins
            .iter()
            .zip(all["plugins"].as_array_mut().into_iter().flatten())
        {
            match self.schema(offer) {
                Ok(schema) => json["schema"] = schema,
                Err(error) => json["schema_fault"] = json!(format!("{error:#}")),
            }
        }
        super::say(&serde_json::to_string_pretty(&all)?);
        Ok(())
    }

    /// From a process of its own: a library that crashes in its constructor takes nobody with it.
    fn schema(&self, offer: &Offer) -> anyhow::Result<Value> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("schema").arg(&offer.about.name);
        let Place { config, plugins } = &self.place;
        for (option, value) in [("--config", config), ("--plugins", plugins)] {
            if let Some(value) = value {
                command.arg(option).arg(value);
            }
        }
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!(
                "`plugin-runner schema {}` failed: {}: {said}",
                offer.about.name,
                output.status
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.place.load()?;
        let shelf = Shelf::read(&config)?;
        let Some(offer) = shelf.named(&self.plugin) else {
            let names: Vec<_> = shelf
                .plugins
                .iter()
                .map(|it| it.about.name.as_str())
                .collect();
            let hint = format!("the plugins here are {}", names.join(", "));
            bail!(Failure::new(format!("no library offers plugin `{}`", self.plugin)).hint(hint));
        };
        let schema = offer.schema(&config)?;
        super::say(&serde_json::to_string_pretty(&schema)?);
        Ok(())
    }
}

fn print_running(status: &Status, json: bool) -> anyhow::Result<()> {
    if json {
        let plugins: Result<Vec<_>, _> = status.plugins.iter().map(described).collect();
        let listed = json!({ "plugins": plugins?, "libraries": status.libraries });
        super::say(&serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    let mut plugins: Vec<_> = status.plugins.iter().collect();
    plugins.sort_by_key(|plugin| (-i64::from(plugin.priority), &plugin.name));
    let mut rows = vec![
        [
            "PRIORITY",
            "PLUGIN",
            "VERSION",
            "STATE",
            "GENERATION",
            "FILE",
        ]
        .map(str::to_owned),
    ];
    for plugin in plugins {
        let last_good = if plugin.last_good {
            " (last good copy)"
        } else {
            ""
        };
        let file = plugin.file.file_name().unwrap_or_default();
        rows.push([
            plugin.priority.to_string(),
            plugin.name.clone(),
            plugin.version.clone(),
            plugin.state.clone(),
            plugin.generation.to_string(),
            file.to_string_lossy().into_owned() + last_good,
        ]);
    }
    super::say(&aligned(&rows));
    for file in &status.libraries {
        if let Some(cause) = &file.cause {
            let hint = file.hint.as_deref();
            let hint = hint.map_or(String::new(), |hint| format!("\n  hint: {hint}"));
            let (name, state) = (file.file.display(), &file.state);
            super::say(&format!("\n{name} is {state}: {cause}{hint}"));
        }
    }
    Ok(())
}

/// A plugin of a running runner in the same form as one of a folder: what its author says stands beside the rest.
fn described(plugin: &Plugin) -> serde_json::Result<Value> {
    let mut rest = plugin.clone();
    let mut json = match rest.described.take() {
        Some(Described { about, schema }) => {
            let mut json = serde_json::to_value(about)?;
            json["schema"] = schema;
            json
        }
        None => json!({ "schema_fault": "the worker did not say it in time" }),
    };
    if let (Value::Object(json), Value::Object(rest)) = (&mut json, serde_json::to_value(rest)?) {
        json.extend(rest);
    }
    Ok(json)
}

fn table(shelf: &Shelf) -> String {
    let mut rows =
        vec![["PRIORITY", "PLUGIN", "VERSION", "STATE", "PHASES", "FILE"].map(str::to_owned)];
    for offer in &shelf.plugins {
        let about = &offer.about;
        let file = offer.file.file_name().unwrap_or_default();
        rows.push([
            about.priority.to_string(),
            about.name.clone(),
            about.version.clone(),
            offer.state.name().to_owned(),
            about.phases.join(" "),
            file.to_string_lossy().into_owned(),
        ]);
    }
    aligned(&rows)
}

fn aligned(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
