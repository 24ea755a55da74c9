//! What a call belongs to, and the bindings that follow from it: options of `call`, `check` and `explain`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Sample;
use crate::config::{Binding, Config};
use crate::request::bindings::{self, Target};
use crate::request::bound;
use crate::request::hook::Hook;

/// What a call belongs to.
#[derive(Debug, Clone, Default, Args)]
pub struct Belongs {
    /// Id of the gateway's route
    #[arg(long, value_name = "ID")]
    pub route: Option<String>,
    /// Id of the gateway's service
    #[arg(long, value_name = "ID")]
    pub service: Option<String>,
    /// Name of the consumer
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// The bindings; without it those that `start` would read: `bindings.file`, or bindings.yaml beside the configuration
    #[arg(long, value_name = "FILE")]
    pub bindings: Option<PathBuf>,
}

impl Belongs {
    /// The same for those who ask which bindings apply.
    pub fn target(&self) -> Target<'_> {
        Target {
            route: self.route.as_deref().map(str::as_bytes),
            service: self.service.as_deref().map(str::as_bytes),
            consumer: self.consumer.as_deref().map(str::as_bytes),
        }
    }

    /// Puts the file that was named into the configuration.
    ///
    /// # Errors
    /// The working directory, from which it is named, cannot be told.
    pub fn name_bindings(&self, config: &mut Config) -> anyhow::Result<()> {
        if let Some(file) = &self.bindings {
            let file = std::path::absolute(file).context("cannot tell the working directory")?;
            config.bindings.file = Some(file);
        }
        Ok(())
    }

    /// The bindings that may apply at this hook, whoever the consumer turns out to be.
    pub fn applying(&self, mut all: Vec<Binding>, hook: Hook) -> Vec<Binding> {
        all.retain(|binding| bindings::may_apply(binding, self.target(), hook));
        all
    }

    /// Has the gateway say it of a call. Before its own plugins the gateway knows no consumer.
    pub fn say_to(&self, sample: &mut Sample) {
        let consumer = self.consumer.as_deref();
        let consumer = consumer.filter(|_| sample.hook() != Hook::PreRequest);
        let (route, service) = (self.route.as_deref(), self.service.as_deref());
        for (name, id) in [
            (bound::ROUTE, route),
            (bound::SERVICE, service),
            (bound::CONSUMER, consumer),
        ] {
            if let Some(id) = id {
                sample.set_variable(name, id);
            }
        }
        if let Some(route) = route {
            sample.set_route(route);
        }
    }

    /// What has to be said of `--consumer`.
    pub fn note(&self, hook: Hook) -> Option<String> {
        let consumer = self.consumer.as_deref()?;
        (hook == Hook::PreRequest).then(|| {
            format!(
                "before its own plugins the gateway knows no consumer: `--consumer {consumer}` counts with --at post and \
                 with a response; here, an authentication plugin of the chain says who the client is"
            )
        })
    }
}
