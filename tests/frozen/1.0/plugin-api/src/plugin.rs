//! The author's trait.

use crate::call::Call;
use crate::{ConfContext, Configuration, InitContext, Next, Request, Response, Result, State};

/// A plugin. Write it on an `impl` block with [`#[plugin]`](macro@crate::plugin), which exports it and fills in what a simple
/// plugin leaves out: `init_worker` of a unit struct, and `Prepared` with `configure` where the configuration itself
/// is all that the phases need.
///
/// One instance serves many threads at once. Everything may block, within the call's deadline; a plugin that knows
/// it will (network, files) says so with `#[plugin(blocking)]` and never runs on an event loop.
///
/// A phase that is not implemented costs nothing. An `Err` or a panic in a phase answers the call with an error (503
/// at the client) and is logged under the plugin's name.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// The configuration of the plugin on one route.
    type Config: Configuration;

    /// What `configure` makes of it: compiled regexes, limiters, caches. All calls of the route share it, on many
    /// threads at once: what changes in it needs a lock or an atomic.
    type Prepared: Send + Sync + 'static;

    /// The phases that the `impl` has, as bits. Filled in by the attribute.
    #[doc(hidden)]
    const PHASES: u32;

    /// What the attribute knows, as JSON. Filled in by the attribute.
    #[doc(hidden)]
    const ABOUT: &'static str;

    /// Makes the instance: once per generation (a loaded build of the library) and process, off the event loops.
    ///
    /// It may run while a predecessor still serves, and more than once for one library: a new library is first tried
    /// with [`Purpose::Probe`](crate::Purpose) in a process that is thrown away. The settings are the operator's, from
    /// `plugins.settings.NAME`:
    ///
    /// ```
    /// # use plugin_api::{Error, InitContext, Result, serde_json};
    /// # struct Mine { keys: String }
    /// # impl Mine {
    /// fn init_worker(context: &InitContext) -> Result<Self> {
    ///     let settings: serde_json::Value = context.settings()?;
    ///     let file = settings["keys"].as_str().unwrap_or("/etc/keys");
    ///     let keys = std::fs::read_to_string(file)
    ///         .map_err(|error| Error::from(error).context(file))?;
    ///     Ok(Self { keys })
    /// }
    /// # }
    /// ```
    ///
    /// It has `plugins.probe_deadline` (5 s) when it is tried: one that takes longer keeps the generation out, and is tried
    /// again later.
    ///
    /// # Errors
    /// Keeps the generation out: a predecessor goes on serving, and without one the plugin's calls are errors.
    fn init_worker(context: &InitContext) -> Result<Self>;

    /// Checks a configuration beyond its type, before `configure`. The default accepts all. It has no instance: a
    /// configuration can be checked where the plugin does not serve.
    ///
    /// # Errors
    /// The conf is refused with this reason.
    fn validate(config: &Self::Config) -> Result<()> {
        let _ = config;
        Ok(())
    }

    /// Makes what the phases get: once per conf (one plugin's configuration on one route), off the event loops, while
    /// the first calls may be waiting for it.
    ///
    /// # Errors
    /// Calls of that route are answered with an error; a predecessor's conf goes on serving.
    fn configure(&self, config: Self::Config, context: &ConfContext) -> Result<Self::Prepared>;

    /// On a request, before any plugin's `access`: for what other plugins should see changed, whatever their order.
    /// An answer from here ends the chain: no `access` runs.
    fn rewrite(&self, prepared: &Self::Prepared, request: &mut Request<'_>) -> Result<Next> {
        let _ = (prepared, request);
        Ok(Next::CONTINUE)
    }

    /// On a request, after all plugins' `rewrite`: the usual place for a plugin's work.
    fn access(&self, prepared: &Self::Prepared, request: &mut Request<'_>) -> Result<Next> {
        let _ = (prepared, request);
        Ok(Next::CONTINUE)
    }

    /// On a response, before any plugin's `body_filter`: for status and headers.
    fn header_filter(
        &self,
        prepared: &Self::Prepared,
        response: &mut Response<'_>,
    ) -> Result<Next> {
        let _ = (prepared, response);
        Ok(Next::CONTINUE)
    }

    /// On a response, with its whole body. The body is fetched only when a plugin of the chain has this phase.
    fn body_filter(&self, prepared: &Self::Prepared, response: &mut Response<'_>) -> Result<Next> {
        let _ = (prepared, response);
        Ok(Next::CONTINUE)
    }

    /// After the reply was written, off the client's path: once for each call, also for one that a plugin answered,
    /// that failed or that passed its deadline. It can change nothing any more, and ask the gateway nothing that was
    /// not asked before; declare what it needs. [`Call::end`] has what came of the call, [`Call::request`] and
    /// [`Call::response`] what it was about.
    ///
    /// Calls whose turn does not come in time are dropped and counted, so a `log` that is slow for long loses some.
    fn log(&self, prepared: &Self::Prepared, call: &Call<'_>) {
        let _ = (prepared, call);
    }

    /// For gateways that let plugins choose a TLS certificate. Reserved: APISIX has no such call.
    fn certificate(&self, prepared: &Self::Prepared, call: &Call<'_>) -> Result<()> {
        let _ = (prepared, call);
        Ok(())
    }

    /// Hands out the state of a conf (a limiter's counters) for its successor: the same conf of the same route, in another
    /// build of the library or in another worker process. It runs off the event loops while calls still use what
    /// `prepared` is; what they change afterwards is lost. So is all of it when the process crashes. At most
    /// [`State::MAX_LEN`] bytes, within a second. `None`: there is nothing to hand on.
    ///
    /// A conf is the same if its value is, byte for byte, and its route: [`ConfContext::route_key`] without the version.
    ///
    /// ```
    /// # use plugin_api::{Error, Result, State};
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # struct Mine;
    /// # struct Prepared { seen: AtomicU64 }
    /// # impl Mine {
    /// fn export_state(&self, prepared: &Prepared) -> Option<State> {
    ///     Some(State::new(1, prepared.seen.load(Ordering::Relaxed).to_le_bytes()))
    /// }
    ///
    /// fn import_state(&self, prepared: &Prepared, state: State) -> Result<()> {
    ///     match (state.version, state.data.try_into()) {
    ///         (1, Ok(seen)) => prepared.seen.store(u64::from_le_bytes(seen), Ordering::Relaxed),
    ///         _ => return Err(Error::new("it has another form")),
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    fn export_state(&self, prepared: &Self::Prepared) -> Option<State> {
        let _ = prepared;
        None
    }

    /// Takes over the state of the predecessor: after `configure`, before the first call, within a second. The predecessor may
    /// be an older build, or a newer one after a return to this.
    ///
    /// # Errors
    /// The state is dropped and the conf starts afresh, with a warning.
    fn import_state(&self, prepared: &Self::Prepared, state: State) -> Result<()> {
        let _ = (prepared, state);
        Ok(())
    }
}
