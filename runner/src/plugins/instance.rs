//! Calls into one plugin: the runner's side of the entry points. The plugin's side catches panics.

use std::sync::Arc;

use plugin_api::abi::numbers::{self, decision};
use plugin_api::abi::{Bytes, CallPointer, Handle, HostRef, ModuleRef, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::blame::{activity, during};
use super::generation::Generation;
use super::retire;

/// What the author's `init_worker` made.
#[derive(Debug)]
pub struct Instance {
    module: ModuleRef,
    host: HostRef,
    handle: Handle,
    purpose: Purpose,
    generation: u64,
}

/// What an instance is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To serve calls.
    Serve,
    /// To see whether the library works, in a process that is thrown away.
    Probe,
    /// To report on the library for a person.
    Check,
}

impl Purpose {
    /// As plugin-api reads it.
    fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Probe => "probe",
            Self::Check => "check",
        }
    }
}

/// What `init_worker` is told.
#[derive(Debug)]
pub struct Init<'a> {
    /// What for.
    pub purpose: Purpose,
    /// Number of the generation.
    pub generation: u64,
    /// Events above this level are not sent (1 error … 5 trace).
    pub level: u32,
    /// `plugins.settings.NAME`.
    pub settings: &'a Value,
}

impl Instance {
    /// Runs `init_worker`. It may take as long as the author likes.
    ///
    /// # Errors
    /// The author's reason.
    pub fn init(module: ModuleRef, host: HostRef, init: &Init<'_>) -> Result<Self, String> {
        let context = json!({
            "purpose": init.purpose.name(),
            "generation": init.generation,
            "level": init.level,
            "settings": init.settings,
        });
        let context = context.to_string();
        let code = || module.init()(host, Bytes::new(context.as_bytes()));
        let handle = made(during(init.generation, activity::START, 0, code))?;
        Ok(Self {
            module,
            host,
            handle,
            purpose: init.purpose,
            generation: init.generation,
        })
    }

    /// Sets the level of the plugin's events.
    pub fn set_level(&self, level: u32) {
        self.module.level()(level);
    }

    fn configure(&self, value: &[u8], route_key: &str) -> Result<Handle, String> {
        let _conf = tracing::info_span!("conf", route_key).entered();
        let purpose = self.purpose.name();
        let context = json!({ "purpose": purpose, "route_key": route_key }).to_string();
        let (value, context) = (Bytes::new(value), Bytes::new(context.as_bytes()));
        made(self.module.configure()(self.handle, value, context))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let (module, handle, generation) = (self.module, self.handle, self.generation);
        let code = move || module.drop_instance()(handle);
        retire::later(move || during(generation, activity::DROP, 0, code));
    }
}

fn made(outcome: Outcome) -> Result<Handle, String> {
    match outcome.code {
        numbers::OK => Ok(outcome.made),
        _ => Err(outcome.error.into_string()),
    }
}

/// What the author's `configure` made of one conf. It keeps its generation alive, and goes before it.
#[derive(Debug)]
pub struct Prepared {
    handle: Handle,
    generation: Arc<Generation>,
}

/// What a phase decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Continue,
    /// The answer in the call ends the chain.
    Respond,
    /// The phase failed; the call has the reason.
    Failed {
        /// It panicked.
        panicked: bool,
    },
}

impl Prepared {
    /// Checks the conf against the plugin's schema and runs `configure`, which may take as long as the author likes.
    ///
    /// # Errors
    /// What is wrong in the conf, or the author's reason.
    pub fn new(
        generation: &Arc<Generation>,
        value: &[u8],
        route_key: &str,
    ) -> Result<Self, String> {
        if let Some(schema) = &generation.schema {
            schema.check(value)?;
        }
        let handle = generation.instance.configure(value, route_key)?;
        Ok(Self {
            handle,
            generation: Arc::clone(generation),
        })
    }

    /// The generation that made it.
    #[inline]
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Asks for its state, and the version of the form of that; `None` when there is none. Runs author code.
    ///
    /// # Errors
    /// It panicked.
    pub fn export_state(&self) -> Result<Option<(u32, Vec<u8>)>, String> {
        let Instance { module, handle, .. } = &self.generation.instance;
        let outcome = module.export_state()(*handle, self.handle);
        match outcome.code {
            numbers::OK if outcome.state.is_empty() => Ok(None),
            numbers::OK => Ok(Some((outcome.version, outcome.state.into_vec()))),
            _ => Err(outcome.error.into_string()),
        }
    }

    /// Gives it the state of a predecessor. Runs author code.
    ///
    /// # Errors
    /// The author's reason, or it panicked.
    pub fn import_state(&self, version: u32, state: &[u8]) -> Result<(), String> {
        let Instance { module, handle, .. } = &self.generation.instance;
        made(module.import_state()(
            *handle,
            self.handle,
            version,
            Bytes::new(state),
        ))
        .map(drop)
    }

    /// Runs a phase (`numbers::phase`). `call` is a call of the instance's host, on this thread.
    #[inline]
    pub fn run(&self, phase: u32, call: CallPointer) -> Decision {
        let Instance {
            module,
            host,
            handle,
            ..
        } = &self.generation.instance;
        match module.run()(*handle, self.handle, phase, *host, call) {
            decision::CONTINUE => Decision::Continue,
            decision::RESPOND => Decision::Respond,
            decision::PANIC => Decision::Failed { panicked: true },
            // Also what a newer plugin may say: an unknown decision must not let a request pass.
            _ => Decision::Failed { panicked: false },
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let module = self.generation.instance.module;
        let (handle, generation) = (self.handle, Arc::clone(&self.generation));
        retire::later(move || {
            let code = || module.drop_prepared()(handle);
            during(generation.number, activity::DROP, 0, code);
            drop(generation);
        });
    }
}
