//! A plugin with a conf, ready to run phases.

use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Data, State};
use super::{Outcome, Request, Response, events, host};
use crate::abi::numbers::{self, decision, phase, text};
use crate::abi::shim;
use crate::abi::{self, Bytes, Handle, ModuleRef};
use crate::{Error, Plugin, Result};

/// A plugin without settings, with one conf, as a runner makes it: `init_worker`, then `configure`.
///
/// # Errors
/// What `init_worker`, the reading of the conf, `validate` or `configure` said.
pub fn conf<P: Plugin>(conf: impl AsRef<[u8]>) -> Result<Conf> {
    Instance::new::<P>(&json!({}))?.conf(conf)
}

/// What `init_worker` made.
#[derive(Debug, Clone)]
pub struct Instance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    module: ModuleRef,
    handle: Handle,
    phases: u32,
    needs: Value,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.module.drop_instance()(self.handle);
    }
}

impl Instance {
    /// Runs `init_worker` with the settings that `plugins.settings.NAME` would have.
    ///
    /// # Errors
    /// What `init_worker` said.
    pub fn new<P: Plugin>(settings: &Value) -> Result<Self> {
        Self::of_module(shim::module::<P>(), P::PHASES, settings)
    }

    /// As [`Instance::new`], for the functions of any library; `phases` as bits `1 << numbers::phase`.
    ///
    /// # Errors
    /// What `init_worker` said.
    #[doc(hidden)]
    pub fn of_module(module: ModuleRef, phases: u32, settings: &Value) -> Result<Self> {
        events::connect();
        let about: Value = serde_json::from_str(module.describe()().as_str())?;
        let context = json!({
            "purpose": "serve",
            "generation": 1,
            "level": events::TRACE,
            "settings": settings,
        });
        let context = context.to_string();
        let made = module.init()(host::host(), Bytes::new(context.as_bytes()));
        Ok(Self(Arc::new(Inner {
            module,
            handle: handle(made)?,
            phases,
            needs: about["needs"].clone(),
        })))
    }

    /// Runs `configure` for a route with the key `route#1#test#1`.
    ///
    /// # Errors
    /// What the reading of the conf, `validate` or `configure` said.
    pub fn conf(&self, conf: impl AsRef<[u8]>) -> Result<Conf> {
        self.conf_of_route("route#1#test#1", conf)
    }

    /// Runs `configure` for a route with this key.
    ///
    /// # Errors
    /// As [`Instance::conf`].
    pub fn conf_of_route(&self, route_key: &str, conf: impl AsRef<[u8]>) -> Result<Conf> {
        let Inner { module, handle, .. } = &*self.0;
        let context = json!({ "purpose": "serve", "route_key": route_key }).to_string();
        let (conf, context) = (Bytes::new(conf.as_ref()), Bytes::new(context.as_bytes()));
        let made = module.configure()(*handle, conf, context);
        Ok(Conf {
            prepared: self::handle(made)?,
            instance: Arc::clone(&self.0),
            route_key: route_key.as_bytes().into(),
        })
    }
}

fn handle(made: abi::Outcome) -> Result<Handle> {
    match made.code {
        numbers::OK => Ok(made.made),
        _ => Err(Error::new(made.error)),
    }
}

/// A plugin with one conf: runs phases, as often as you like.
#[derive(Debug)]
pub struct Conf {
    prepared: Handle,
    instance: Arc<Inner>,
    route_key: Data,
}

impl Drop for Conf {
    fn drop(&mut self) {
        self.instance.module.drop_prepared()(self.prepared);
    }
}

impl Conf {
    /// Runs `rewrite`.
    ///
    /// # Panics
    /// The plugin does not have this phase: a runner would not call it.
    #[track_caller]
    pub fn rewrite(&self, request: Request) -> Outcome {
        self.run(request.0, &[phase::REWRITE])
    }

    /// Runs `access`.
    ///
    /// # Panics
    /// As [`Conf::rewrite`].
    #[track_caller]
    pub fn access(&self, request: Request) -> Outcome {
        self.run(request.0, &[phase::ACCESS])
    }

    /// Runs the phases of a request that the plugin has, in their order: `rewrite`, `access`.
    ///
    /// # Panics
    /// The plugin has neither.
    #[track_caller]
    pub fn request(&self, request: Request) -> Outcome {
        self.run(request.0, &self.present(phase::REWRITE, phase::ACCESS))
    }

    /// Runs `header_filter`.
    ///
    /// # Panics
    /// As [`Conf::rewrite`].
    #[track_caller]
    pub fn header_filter(&self, response: Response) -> Outcome {
        self.run(response.0, &[phase::HEADER_FILTER])
    }

    /// Runs `body_filter`.
    ///
    /// # Panics
    /// As [`Conf::rewrite`].
    #[track_caller]
    pub fn body_filter(&self, response: Response) -> Outcome {
        self.run(response.0, &[phase::BODY_FILTER])
    }

    /// Runs the phases of a response that the plugin has, in their order: `header_filter`, `body_filter`.
    ///
    /// # Panics
    /// The plugin has neither.
    #[track_caller]
    pub fn response(&self, response: Response) -> Outcome {
        let phases = self.present(phase::HEADER_FILTER, phase::BODY_FILTER);
        self.run(response.0, &phases)
    }

    /// Runs `export_state`, as a runner does before the conf's successor takes over.
    ///
    /// # Errors
    /// It panicked, or the state has more than [`State::MAX_LEN`](crate::State::MAX_LEN) bytes.
    pub fn export_state(&self) -> Result<Option<crate::State>> {
        let Inner { module, handle, .. } = &*self.instance;
        let made = module.export_state()(*handle, self.prepared);
        if made.code != numbers::OK {
            return Err(Error::new(made.error));
        }
        if made.state.len() > crate::State::MAX_LEN {
            return Err(Error::new(format_args!(
                "a state of {} bytes is too large",
                made.state.len()
            )));
        }
        let state = crate::State::new(made.version, made.state.into_vec());
        Ok((!state.data.is_empty()).then_some(state))
    }

    /// Runs `import_state`, as a runner does before the first call.
    ///
    /// # Errors
    /// What it said.
    pub fn import_state(&self, state: crate::State) -> Result<()> {
        let Inner { module, handle, .. } = &*self.instance;
        let data = Bytes::new(&state.data);
        let taken = module.import_state()(*handle, self.prepared, state.version, data);
        match taken.code {
            numbers::OK => Ok(()),
            _ => Err(Error::new(taken.error)),
        }
    }

    /// The instance and what `configure` made, for tests of the contract itself.
    #[doc(hidden)]
    pub fn handles(&self) -> (Handle, Handle) {
        (self.instance.handle, self.prepared)
    }

    /// Runs `log` for a request that passed the chain unchanged.
    ///
    /// # Panics
    /// As [`Conf::rewrite`].
    #[track_caller]
    pub fn log_request(&self, request: Request) -> Outcome {
        self.log(request.0)
    }

    /// Runs `log` for a response that passed the chain unchanged.
    ///
    /// # Panics
    /// As [`Conf::rewrite`].
    #[track_caller]
    pub fn log_response(&self, response: Response) -> Outcome {
        self.log(response.0)
    }

    #[track_caller]
    fn log(&self, mut state: State) -> Outcome {
        state.over = true;
        self.run(state, &[phase::LOG])
    }

    fn has(&self, phase: u32) -> bool {
        self.instance.phases & 1 << phase != 0
    }

    fn present(&self, first: u32, second: u32) -> Vec<u32> {
        [first, second]
            .into_iter()
            .filter(|phase| self.has(*phase))
            .collect()
    }

    #[track_caller]
    fn run(&self, mut state: State, phases: &[u32]) -> Outcome {
        let runs = !phases.is_empty() && phases.iter().all(|phase| self.has(*phase));
        assert!(
            runs,
            "the plugin does not have this phase: a runner would not call it"
        );
        state
            .texts
            .insert(text::ROUTE_KEY, Arc::clone(&self.route_key));
        state.started = std::time::Instant::now();
        let ((mut state, decision), events) = events::collect(|| self.run_in_turn(state, phases));
        state.asked.retain(|question| !self.declared(question));
        Outcome::new(state, decision, events)
    }

    /// One call: the phases see the same pointer, and what was handed out lives until the last is over.
    fn run_in_turn(&self, state: State, phases: &[u32]) -> (State, u32) {
        let Inner { module, handle, .. } = &*self.instance;
        host::lend(state, |call| {
            let run =
                |phase: &u32| module.run()(*handle, self.prepared, *phase, host::host(), call);
            let mut decisions = phases.iter().map(run);
            decisions
                .find(|decision| *decision != decision::CONTINUE)
                .unwrap_or(decision::CONTINUE)
        })
    }

    /// Whether a phase declares the question: a runner asks all of a call's at once.
    fn declared(&self, question: &str) -> bool {
        let needs = self.instance.needs.as_object();
        needs.is_some_and(|needs| {
            needs
                .values()
                .any(|needs| match question.strip_prefix("variable ") {
                    Some(name) => needs["variables"]
                        .as_array()
                        .is_some_and(|names| names.iter().any(|known| known == name)),
                    None => needs[question] == true,
                })
        })
    }
}
