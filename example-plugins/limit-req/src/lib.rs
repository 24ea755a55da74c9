//! Limits how many requests a second pass: of a route, or of each client, user, or whatever a header or variable says.
//!
//! What was counted goes on to the next build of this library and to the next worker. It is lost when the worker crashes:
//! then everybody has their whole burst again.
#![forbid(unsafe_code)]

mod key;
mod limiter;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plugin_api::{
    ConfContext, Error, Next, Plugin, Request, Result, State, bail, config, plugin, tracing,
};

use self::key::Key;
use self::limiter::Limiter;

/// Requests that may wait at the same time. More are rejected at once, so that a client who sends too much does not
/// hold all the threads that the others need (`worker.threads_per_plugin`, 64).
const MAX_WAITING: usize = 32;

/// `{"rate": 10, "burst": 20}`, and if wanted `"key": "header:x-user"`, `"rejected_code": 429`, `"max_delay": 0`.
#[config]
pub struct Config {
    /// Requests a second; less than 1 is possible.
    #[schemars(range(min = 0.001, max = 1_000_000))]
    rate: f64,
    /// Requests that pass at once, after a pause.
    #[schemars(range(min = 1, max = 1_000_000))]
    burst: u32,
    /// Whose requests are counted together: `route` (all of the route), `remote_addr` (of one client address),
    /// `header:NAME` or `var:NAME` (of one value; those without a value count as one).
    #[serde(default = "route")]
    #[schemars(regex(pattern = "^(route|remote_addr|(header|var):.+)$"))]
    key: String,
    /// Status of a request that is too much.
    #[serde(default = "service_unavailable")]
    #[schemars(range(min = 200, max = 599))]
    rejected_code: u16,
    /// Milliseconds that a request may wait for its turn before it is rejected; never more than half of the time
    /// that the call has. 0: it does not wait.
    #[serde(default = "one_second")]
    #[schemars(range(max = 60_000))]
    max_delay: u32,
}

/// As in the Go runner, whose confs have no key: what protected an upstream there has to protect it here.
fn route() -> String {
    "route".to_owned()
}

fn service_unavailable() -> u16 {
    503
}

fn one_second() -> u32 {
    1000
}

/// The configuration, with its key understood and its state.
pub struct Prepared {
    config: Config,
    key: Key,
    limiter: Limiter,
}

/// The plugin.
#[derive(Default)]
pub struct LimitReq {
    waiting: AtomicUsize,
}

#[plugin(blocking)]
impl Plugin for LimitReq {
    type Config = Config;
    type Prepared = Prepared;

    fn validate(config: &Config) -> Result<()> {
        if !(0.001..=1_000_000.0).contains(&config.rate) {
            bail!("`rate`: {} is not 0.001 to 1000000", config.rate);
        }
        if !(1..=1_000_000).contains(&config.burst) {
            bail!(
                "`burst`: {} is not 1 to 1000000 (with 0 no request would ever pass)",
                config.burst
            );
        }
        if !(200..=599).contains(&config.rejected_code) {
            bail!(
                "`rejected_code`: {} is not 200 to 599",
                config.rejected_code
            );
        }
        if config.max_delay > 60_000 {
            bail!("`max_delay`: {} is more than 60000", config.max_delay);
        }
        Ok(())
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Prepared> {
        let limiter = NonZeroU32::new(config.burst)
            .and_then(|burst| Limiter::new(config.rate, burst))
            .ok_or_else(|| Error::new(format_args!("`rate`: {} cannot be kept", config.rate)))?;
        Ok(Prepared {
            key: Key::parse(&config.key)?,
            limiter,
            config,
        })
    }

    fn access(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        let key = prepared.key.value(request)?;
        let patience = Duration::from_millis(prepared.config.max_delay.into());
        let patience = patience.min(request.remaining() / 2);
        if self.passes(&prepared.limiter, key.as_deref(), patience) {
            return Ok(Next::CONTINUE);
        }
        tracing::debug!("too many requests: rejected");
        Next::respond(prepared.config.rejected_code).into()
    }

    fn export_state(&self, prepared: &Prepared) -> Option<State> {
        prepared.limiter.export()
    }

    fn import_state(&self, prepared: &Prepared, state: State) -> Result<()> {
        prepared.limiter.import(&state)
    }
}

impl LimitReq {
    /// Takes one request of the key's rate, if need be later.
    fn passes(&self, limiter: &Limiter, key: Option<&[u8]>, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut place = None;
        loop {
            let Err(wait) = limiter.take(key) else {
                return true;
            };
            if Instant::now() + wait > until {
                return false;
            }
            if place.is_none() {
                place = Place::take(&self.waiting);
            }
            if place.is_none() {
                return false;
            }
            sleep(wait);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "there is nothing to wait for but the time, and the plugin is declared as blocking"
)]
fn sleep(wait: Duration) {
    std::thread::sleep(wait);
}

/// One of the places for requests that wait; free again when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize) -> Option<Self> {
        let one_more = |taken| (taken < MAX_WAITING).then_some(taken + 1);
        let place = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        place.is_ok().then_some(Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
