//! `list` and `schema`: what the libraries of a folder say of themselves. Needs no runner.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::config::{self, Config, Sources};
use crate::exit::Failure;
use crate::supervise::shelf::{Offer, Shelf};

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

/// Show the plugins of a folder, in the order of their priority
#[derive(Debug, Args)]
pub struct List {
    /// Everything that is known of each, with its schema, as JSON
    #[arg(long)]
    pub json: bool,
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
