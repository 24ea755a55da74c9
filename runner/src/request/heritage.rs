//! Hands the state of a conf to its successor in another generation or worker: once, before the successor's first call,
//! within a time and a size. What goes wrong is logged, and the successor starts afresh: nothing waits for it or fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugin_api::State;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::prepared::Stateful;
use super::saved::{MOST, SavedState};
use crate::plugins::blame::{activity, during};
use crate::plugins::generation::Generation;
use crate::plugins::instance::Prepared;

/// How long an `export_state` or an `import_state` may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long those of all confs together may hold up a change.
const ALL: Duration = Duration::from_secs(2);
/// States in memory at once.
const AT_ONCE: usize = 16;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// Where a state comes from.
#[derive(Debug)]
pub enum Heritage {
    /// From what another generation made of the same conf.
    Conf(Arc<Prepared>),
    /// From an earlier worker.
    Saved(SavedState),
}

/// Who takes over the state for one conf in one generation.
#[derive(Debug, Default)]
pub struct Heir {
    route_key: String,
    heritage: Mutex<Option<Heritage>>,
    /// Nobody serves while another hands on.
    turn: tokio::sync::Mutex<()>,
}

/// Who takes over, and what was made of its conf.
pub type Inheritance = (Arc<Heir>, Arc<Prepared>);

/// Why a state is not handed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It took too long.
    #[error("`{0}` took longer than {DEADLINE:?}")]
    Late(&'static str),
    /// It refused or panicked.
    #[error("`{0}` failed: {1}")]
    Failed(&'static str, String),
    /// It is too large.
    #[error("it has {0} bytes, more than the {most} that are handed on", most = State::MAX_LEN)]
    TooLarge(usize),
}

impl Heir {
    /// Of a conf of this route.
    pub fn new(route_key: &str) -> Self {
        Self {
            route_key: route_key.to_owned(),
            ..Self::default()
        }
    }

    /// The gateway's key of the route.
    pub fn route_key(&self) -> &str {
        &self.route_key
    }

    /// Says from whom it shall take over, before it serves.
    pub fn shall_take(&self, heritage: Heritage) {
        *self.heritage() = Some(heritage);
    }

    /// The same, unless there is somebody already.
    pub fn may_take(&self, heritage: Heritage) {
        self.heritage().get_or_insert(heritage);
    }

    /// Takes over what it shall, once; whoever comes meanwhile waits. `successor`: what was made of its conf.
    async fn settle(&self, successor: &Arc<Prepared>) {
        let _turn = self.turn.lock().await;
        let Some(heritage) = self.heritage().take() else {
            return;
        };
        if let Err(lost) = take_over(heritage, successor).await {
            log_lost(successor.generation(), &self.route_key, &lost);
        }
    }

    fn heritage(&self) -> std::sync::MutexGuard<'_, Option<Heritage>> {
        self.heritage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has all of them take over, at most within [`ALL`].
pub async fn settle_all(heirs: Vec<Inheritance>) {
    let mut all = JoinSet::new();
    for (heir, successor) in heirs {
        all.spawn(async move { heir.settle(&successor).await });
    }
    let done = timeout(ALL, async { while all.join_next().await.is_some() {} });
    if done.await.is_err() {
        tracing::warn!(
            confs = all.len(),
            "the state of some confs could not be handed on within {ALL:?}: they start afresh"
        );
    }
}

fn log_lost(generation: &Generation, route_key: &str, lost: &Lost) {
    tracing::warn!(
        plugin = generation.name(),
        route_key,
        generation = generation.number,
        "the state of this conf is not handed on: {lost}; it starts afresh"
    );
}

async fn take_over(heritage: Heritage, successor: &Arc<Prepared>) -> Result<(), Lost> {
    // It is never closed.
    let _place = PLACES.acquire().await.ok();
    let state = match heritage {
        Heritage::Conf(predecessor) => export(&predecessor).await?,
        Heritage::Saved(saved) => Some((saved.version, saved.data)),
    };
    match state {
        Some((version, data)) => import(successor, version, data).await,
        None => Ok(()),
    }
}

/// The states of these confs, for another worker: those that come in time, and no more than fit.
pub async fn export_all(confs: Vec<Stateful>, within: Duration) -> Vec<SavedState> {
    let until = Instant::now() + within;
    let mut all = JoinSet::new();
    let count = confs.len();
    for conf in confs {
        all.spawn(async move {
            // A place is free again when the state is out: what is out is bounded below.
            let _place = PLACES.acquire().await.ok();
            export_one(conf).await
        });
    }
    let (mut states, mut bytes, mut seen) = (Vec::new(), 0, 0);
    while let Ok(Some(ended)) = timeout_at(until, all.join_next()).await {
        let state: Option<SavedState> = ended.ok().flatten();
        let len = state.as_ref().map_or(0, |state| state.data.len());
        if bytes + len > MOST {
            break;
        }
        bytes += len;
        seen += 1;
        states.extend(state);
    }
    if seen < count {
        tracing::warn!(
            confs = count - seen,
            "the state of some confs is not handed on: all together they took longer than {within:?} or have more than {MOST} bytes"
        );
    }
    states
}

async fn export_one(conf: Stateful) -> Option<SavedState> {
    let generation = conf.prepared.generation();
    let exported = export(&conf.prepared).await;
    let exported = exported.inspect_err(|lost| log_lost(generation, conf.heir.route_key(), lost));
    let (version, data) = exported.ok().flatten()?;
    Some(SavedState {
        conf: conf.conf,
        plugin: generation.name().to_owned(),
        route_key: conf.heir.route_key().to_owned(),
        version,
        data,
    })
}

async fn export(prepared: &Arc<Prepared>) -> Result<Option<(u32, Vec<u8>)>, Lost> {
    let of = Arc::clone(prepared);
    let code = move || of.export_state();
    let state = in_time(
        prepared.generation(),
        (activity::EXPORT, "export_state"),
        code,
    )
    .await?;
    match state {
        Some((_, data)) if data.len() > State::MAX_LEN => Err(Lost::TooLarge(data.len())),
        state => Ok(state),
    }
}

async fn import(prepared: &Arc<Prepared>, version: u32, data: Vec<u8>) -> Result<(), Lost> {
    let to = Arc::clone(prepared);
    let code = move || to.import_state(version, &data);
    in_time(
        prepared.generation(),
        (activity::IMPORT, "import_state"),
        code,
    )
    .await
}

/// Runs author code on a thread, as one of the few that its generation may hold.
async fn in_time<T: Send + 'static>(
    generation: &Arc<Generation>,
    (activity, name): (u8, &'static str),
    code: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Lost> {
    let until = Instant::now() + DEADLINE;
    let late = |_| Lost::Late(name);
    let permit = Arc::clone(&generation.configuring).acquire_owned();
    let permit = timeout_at(until, permit).await.map_err(late)?;
    let number = generation.number;
    let running = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        during(number, activity, 0, code)
    });
    let failed = |error: String| Lost::Failed(name, error);
    let ran = timeout_at(until, running).await.map_err(late)?;
    ran.map_err(|_| failed("the runner ends".to_owned()))?
        .map_err(failed)
}
