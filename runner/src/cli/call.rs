//! `call`: from arguments to a chain and a call, and what came of it.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::Place;
use crate::call::{self, BadSample, Belongs, Outcome, Report, Run, Sample};
use crate::config::{Binding, Config};
use crate::exit::Failure;
use crate::plugins::instance::Purpose;
use crate::supervise::rehearsal::Copy;
use crate::supervise::shelf::{Shelf, Standing};
use crate::telemetry::{Sink, Style, Telemetry};

const EXAMPLES: &str = "\
Examples:
  A request through two plugins of a folder:
    plugin-runner call --plugins /srv/plugins --plugin 'key-auth={}' --plugin say='{\"body\": \"hi\"}' /x -H 'apikey: k'

  A response through one:
    plugin-runner call --plugins /srv/plugins --plugin 'response-rewrite={\"status\": 202}' --response 200 -d page

  From a file that looks like HTTP (`POST /x`, headers, `$variable: value`, an empty line, the body):
    plugin-runner call --plugins /srv/plugins --plugin 'say={}' --request sample.http

  What bindings do with a request of a route, without a chain of its own:
    plugin-runner call --plugins /srv/plugins --bindings bindings.yaml --route 12 --service 7 /x

The chain is what --plugin names, in that order, and what bindings add to it, as under `start`: those of --bindings, else
of the configuration (`bindings.file`, or bindings.yaml beside it). A plugin that --plugin names replaces its bindings;
`plugin-runner explain` says which one wins and why. What a plugin logs in a phase stands under that phase; all that plugins log and print goes to stderr
too. The plugins run in a process that is thrown away, started as for
serving (`Purpose::Serve`).
Exit codes: 0 the call was answered, 1 it was answered with an error, 64 wrong arguments or configuration.";

/// Run one request or response through plugins and show what each did, without a gateway
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CallOne {
    /// A plugin of the chain with its configuration; again for the next one. None: what bindings add
    #[arg(long = "plugin", value_name = "NAME=JSON")]
    pub chain: Vec<String>,
    /// The method (GET, or POST with a body) and the path with its query
    #[arg(value_name = "[METHOD] PATH")]
    pub words: Vec<String>,
    /// A header; again for more. `$name: value` is a variable of the gateway
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The body; @FILE reads it from a file
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    pub body: Option<String>,
    /// A response with this status instead of a request; headers and body are the response's
    #[arg(long, value_name = "STATUS")]
    pub response: Option<u16>,
    /// The hook that the request comes from: before or after the gateway's own plugins
    #[arg(long, value_enum, default_value_t = At::Pre, conflicts_with = "response")]
    pub at: At,
    /// A variable of the gateway, for plugins that ask for it; again for more
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub variables: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub client: IpAddr,
    /// Read the request or response from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["words", "response"])]
    pub request: Option<PathBuf>,
    /// Run the call again as often as this, to time it
    #[arg(long, value_name = "TIMES", default_value_t = 0)]
    pub repeat: u32,
    /// Everything as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub belongs: Belongs,
    #[command(flatten)]
    pub place: Place,
}

/// One of the gateway's hooks for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum At {
    /// ext-plugin-pre-req
    Pre,
    /// ext-plugin-post-req
    Post,
}

impl CallOne {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let sample = self.sample()?;
        let chain = self.chain()?;
        let mut config = self.place.load()?;
        self.belongs.name_bindings(&mut config)?;
        let bindings = self
            .belongs
            .applying(config.read_bindings()?, sample.hook());
        self.something_to_run(&config)?;
        let libraries = libraries(&config, &chain, &bindings)?;
        // stdout is for the report.
        let style = Style::of(config.logging.format, &Sink::Stderr);
        let telemetry = Telemetry::init(config.logging.level, style, Sink::Stderr)?;
        let run = Run {
            config: &config,
            purpose: Purpose::Serve,
            libraries,
            chain: &chain,
            bindings: bindings.clone(),
            sample: Some(&sample),
            again: self.repeat,
        };
        let rehearsed = call::run(run, &telemetry.lines()).map_err(usage)?;
        drop(telemetry);
        let mut report = Report::of(&sample, &bindings, &rehearsed);
        report.note = self.belongs.note(sample.hook());
        match self.json {
            true => super::say(&serde_json::to_string_pretty(&report)?),
            false => super::say(&call::text(&report, super::colours())),
        }
        match (&report.broken, &report.outcome) {
            (Some(broken), _) => {
                bail!(Failure::new("the call did not come to its end").because(broken.as_str()))
            }
            (None, Outcome::Error) => bail!(Failure::new("the call was answered with an error")),
            _ => Ok(()),
        }
    }

    fn sample(&self) -> anyhow::Result<Sample> {
        let mut sample = match &self.request {
            Some(file) => sample_in(file)?,
            None => self.sample_of_words().map_err(usage)?,
        };
        let headers = self
            .headers
            .iter()
            .try_for_each(|header| sample.add_header(header));
        let variables = self
            .variables
            .iter()
            .try_for_each(|variable| sample.add_variable(variable));
        headers.and(variables).map_err(usage)?;
        sample.set_address(self.client);
        if self.at == At::Post {
            sample.set_after();
        }
        self.belongs.say_to(&mut sample);
        if let Some(body) = &self.body {
            sample.set_body(match body.strip_prefix('@') {
                Some(file) => std::fs::read(file).with_context(|| format!("cannot read {file}"))?,
                None => body.as_bytes().to_vec(),
            });
        }
        Ok(sample)
    }

    /// # Errors
    /// There is neither a chain nor a file of bindings.
    fn something_to_run(&self, config: &Config) -> anyhow::Result<()> {
        let file = config.bindings_file().filter(|file| file.exists());
        if self.chain.is_empty() && file.is_none() {
            bail!(
                Failure::new("there is no plugin to run")
                    .hint("name one with --plugin 'NAME={\"key\": \"value\"}', or bindings with --bindings FILE")
                    .usage()
            );
        }
        Ok(())
    }

    fn sample_of_words(&self) -> Result<Sample, BadSample> {
        let method = if self.body.is_some() { "POST" } else { "GET" };
        match (self.response, self.words.as_slice()) {
            (Some(status), _) => Sample::response(status),
            (None, [path]) => Sample::request(method, path),
            (None, [method, path]) => Sample::request(method, path),
            (None, words) => Err(BadSample::Words(words.len())),
        }
    }

    /// The plugins with their values. What is no JSON is the plugin's business.
    fn chain(&self) -> anyhow::Result<Vec<(String, String)>> {
        let parse = |plugin: &String| match plugin.split_once('=').unwrap_or((plugin, "{}")) {
            ("", _) => Err(Failure::new(format!("`{plugin}` names no plugin"))
                .hint("write it as --plugin 'NAME={\"key\": \"value\"}'")
                .usage()
                .into()),
            (name, value) => Ok((name.to_owned(), value.to_owned())),
        };
        self.chain.iter().map(parse).collect()
    }
}

/// The call in a file.
///
/// # Errors
/// It cannot be read, or looks otherwise.
pub(super) fn sample_in(file: &PathBuf) -> anyhow::Result<Sample> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let sample = Sample::read(&text);
    Ok(sample.map_err(|error| {
        Failure::new(format!("{name} is no sample call"))
            .because(error)
            .usage()
    })?)
}

fn usage(error: BadSample) -> anyhow::Error {
    Failure::new(error.to_string()).usage().into()
}

/// A copy of the library of each plugin. One that is only bound may have none, as under `start`: then its calls fail.
fn libraries(
    config: &Config,
    chain: &[(String, String)],
    bindings: &[Binding],
) -> anyhow::Result<Vec<Copy>> {
    let shelf = Shelf::read(config)?;
    let serves = |name: &&String| {
        let offer = shelf.named(name);
        offer.is_some_and(|offer| offer.state == Standing::Serves)
    };
    let bound = bindings.iter().map(|binding| &binding.plugin);
    let named = chain.iter().map(|(name, _)| name);
    let mut names: Vec<_> = named.chain(bound.filter(serves)).collect();
    names.sort();
    names.dedup();
    let copy = |(name, number): (&String, u64)| {
        let Some(offer) = shelf.named(name) else {
            let names: Vec<_> = shelf
                .plugins
                .iter()
                .map(|it| it.about.name.as_str())
                .collect();
            let unusable = shelf
                .unusable
                .iter()
                .map(|it| format!("{}: {}", it.file.display(), it.refusal.cause));
            let hint = format!("the plugins here are: {}", names.join(", "));
            let failure = Failure::new(format!("no library offers plugin `{name}`")).hint(hint);
            let unusable: Vec<_> = unusable.collect();
            bail!(if unusable.is_empty() {
                failure
            } else {
                failure.because(unusable.join("\n"))
            });
        };
        let file = offer.file.display().to_string();
        let copy = Copy::of(&offer.file, number);
        Ok(copy
            .map_err(|refusal| Failure::new(format!("{file} cannot be used: {}", refusal.cause)))?)
    };
    names.into_iter().zip(1..).map(copy).collect()
}
