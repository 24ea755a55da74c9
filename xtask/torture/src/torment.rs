//! What is done to the runner, one thing after the other, and how each has to end.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use crate::builds::Builds;
use crate::clients::{Clients, Load};
use crate::crashes::{CRASHES, Crash, crash};
use crate::lay::{Folder, WAYS, Way};
use crate::ledger::Ledger;
use crate::report::{Done, Summary};
use crate::routes::routes;
use crate::runner::Runner;
use crate::samples::Samples;

/// The library that is replaced.
const NAME: &str = "libmisbehaving.so";
/// Of so many swaps, one comes after a broken library.
const BROKEN: u64 = 5;
/// A library that hangs takes a whole deadline: it comes this seldom.
const HANGING: u64 = 400;
/// Reloads of nothing.
const RELOAD: u64 = 25;
/// One crash of so many comes while a library is being taken up.
const IN_BETWEEN: u64 = 4;
/// A worker that ends sooner than a second after its start counts as a crash loop, and the next one has to wait.
const LIVED: Duration = Duration::from_millis(1_100);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// How much.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Good libraries to lay.
    pub swaps: u64,
    /// Crashes among them.
    pub crashes: u64,
    /// Recycles among them.
    pub recycles: u64,
    /// Ends then, however far it has come.
    pub at_most: Option<Duration>,
    /// Of calls alone, before anything else happens.
    pub calm: Duration,
    /// Connections of the load.
    pub connections: usize,
    /// Of each connection, after an answer.
    pub pause: Duration,
    /// Where chance starts.
    pub seed: u64,
}

/// A run.
pub struct Torment {
    runner: Runner,
    builds: Builds,
    folder: Folder,
    clients: Clients,
    ledger: Arc<Ledger>,
    random: Rng,
    plan: Plan,
    build: u64,
    done: Done,
    crashed: u64,
    /// When the worker that lives now was started, or a moment later.
    worker_since: Instant,
    samples: Samples,
    started: Instant,
    told: Instant,
}

impl Torment {
    /// Lays the first build and lets the load begin. The runner serves already.
    ///
    /// # Errors
    /// The runner does not do what it has to from the beginning.
    pub fn start(runner: Runner, builds: Builds, mut plan: Plan) -> Result<Self> {
        if !runner.can_recycle() {
            plan.recycles = 0;
        }
        let mut folder = Folder::new(runner.path("plugins"), runner.path("beside"));
        let ledger = Arc::new(Ledger::default());
        ledger.lay(1);
        folder.lay(Way::Rename, NAME, &builds.good(1))?;
        runner.reload()?;
        ledger.serves(1);
        let load = Load {
            socket: runner.socket(),
            connections: plan.connections,
            pause: plan.pause,
            routes: routes(16),
        };
        let clients = Clients::start(load, &ledger)?;
        Ok(Self {
            runner,
            builds,
            folder,
            clients,
            ledger,
            random: Rng::with_seed(plan.seed),
            plan,
            build: 1,
            done: Done::default(),
            crashed: 0,
            worker_since: Instant::now(),
            samples: Samples::default(),
            started: Instant::now(),
            told: Instant::now(),
        })
    }

    /// Does it all. Each line of progress goes to `tell`, and the runner's log to the file `log`.
    ///
    /// # Errors
    /// The runner is gone, or what disturbs it cannot go on. Broken promises are no error but in the summary.
    pub fn run(mut self, log: Option<&Path>, mut tell: impl FnMut(&str)) -> Result<Summary> {
        let result = self.torment(&mut tell);
        if let Some(log) = log {
            self.runner.keep_log(log)?;
        }
        let stopped = self.clients.stop();
        result.with_context(|| format!("the runner said last:\n{}", self.runner.last_lines()))?;
        stopped?;
        let panics = self.runner.said("panicked at runner");
        if panics > 0 {
            self.ledger
                .fault(format!("the runner itself panicked {panics} times"));
        }
        Ok(Summary {
            done: self.done,
            counts: self.ledger.counts(),
            samples: self.samples,
            time: self.started.elapsed(),
            connections: self.plan.connections,
            pause: self.plan.pause,
        })
    }

    fn torment(&mut self, tell: &mut impl FnMut(&str)) -> Result<()> {
        self.calm()?;
        self.ledger.disturb();
        while !self.is_over() {
            self.step()?;
            self.samples.take(&self.runner, self.done.swaps);
            if self.told.elapsed() > PROGRESS {
                self.told = Instant::now();
                tell(&self.progress());
            }
        }
        self.samples.take_now(&self.runner, self.done.swaps);
        tell(&self.progress());
        Ok(())
    }

    /// Calls alone, to compare with.
    fn calm(&mut self) -> Result<()> {
        let until = Instant::now() + self.plan.calm;
        self.runner.wait("the calm is over", |_| {
            (Instant::now() > until).then_some(())
        })?;
        self.samples.take_now(&self.runner, 0);
        Ok(())
    }

    fn is_over(&self) -> bool {
        let plan = &self.plan;
        let Done {
            swaps, recycles, ..
        } = self.done;
        let enough =
            swaps >= plan.swaps && self.crashed >= plan.crashes && recycles >= plan.recycles;
        let late = plan
            .at_most
            .is_some_and(|most| self.started.elapsed() > most);
        enough || late
    }

    fn step(&mut self) -> Result<()> {
        let swaps = self.done.swaps;
        let due = (swaps + 1) * self.plan.crashes / self.plan.swaps.max(1);
        let over = swaps >= self.plan.swaps;
        if (self.crashed < due || over) && self.worker_since.elapsed() > LIVED {
            return match self.crashed % IN_BETWEEN {
                0 if !over => self.crash_in_between(),
                _ => self.crash(),
            };
        }
        if self.done.recycles < (swaps + 1) * self.plan.recycles / self.plan.swaps.max(1) {
            self.recycle()?;
        }
        if over {
            return self.wait_for_worker();
        }
        if swaps % BROKEN == BROKEN - 1 {
            self.lay_broken()?;
        }
        if swaps % RELOAD == RELOAD - 1 {
            self.runner.reload()?;
            self.done.reloads += 1;
        }
        self.swap()
    }

    /// Until it has lived long enough to crash again.
    fn wait_for_worker(&mut self) -> Result<()> {
        let since = self.worker_since;
        self.runner.wait("the worker has lived a while", |_| {
            (since.elapsed() > LIVED).then_some(())
        })
    }

    /// A new worker takes over from the old one, which finishes its calls: nobody notices.
    fn recycle(&mut self) -> Result<()> {
        let before = self.runner.worker();
        let recycled = self.runner.recycle()?;
        if !recycled.done {
            let lines = recycled.lines.join("; ");
            self.ledger
                .fault(format!("the worker was not recycled: {lines}"));
        }
        if self.runner.worker() == before {
            let fault = "the old worker is still there after a recycle";
            self.ledger.fault(fault.to_owned());
        }
        self.worker_since = Instant::now();
        self.done.recycles += 1;
        Ok(())
    }

    fn swap(&mut self) -> Result<()> {
        self.lay_next()?;
        let reloaded = self.runner.reload()?;
        self.swapped(reloaded.done, &reloaded.lines);
        Ok(())
    }

    fn lay_next(&mut self) -> Result<()> {
        self.build += 1;
        let way = WAYS[self.random.usize(..WAYS.len())];
        let bytes = self.builds.good(self.build);
        self.ledger.lay(self.build);
        let laid = self.folder.lay(way, NAME, &bytes);
        laid.with_context(|| format!("laying build {} by {way:?}", self.build))
    }

    fn swapped(&mut self, done: bool, lines: &[String]) {
        if done {
            self.ledger.serves(self.build);
        } else {
            let lines = lines.join("; ");
            self.ledger
                .fault(format!("build {} was not taken up: {lines}", self.build));
        }
        self.done.swaps += 1;
    }

    /// What cannot serve must not: what served goes on.
    fn lay_broken(&mut self) -> Result<()> {
        let turn = self.done.broken.values().sum::<u64>() as usize;
        let hanging = self
            .builds
            .hanging()
            .filter(|_| self.done.swaps % HANGING == HANGING - 1);
        let kinds = self.builds.kinds();
        let kind = match hanging {
            Some(bytes) => {
                self.folder.lay(Way::Rename, NAME, bytes)?;
                "a start that hangs"
            }
            None if turn % (kinds + 2) == kinds => {
                self.folder.dangle(NAME)?;
                "a link to nothing"
            }
            None if turn % (kinds + 2) == kinds + 1 => {
                let bytes = self.builds.good(self.build);
                self.folder.open_to_all(NAME, &bytes)?;
                "open to all"
            }
            None => {
                let (kind, bytes) = self.builds.broken(turn % (kinds + 2));
                let way = WAYS[self.random.usize(..WAYS.len())];
                self.folder.lay(way, NAME, bytes)?;
                kind
            }
        };
        let reloaded = self.runner.reload()?;
        // Whether it fails says little: the folder may have been looked at before it was asked for.
        if reloaded.lines.iter().any(|line| line.contains("serves:")) {
            let lines = reloaded.lines.join("; ");
            self.ledger.fault(format!("{kind} was taken up: {lines}"));
        }
        *self.done.broken.entry(kind).or_default() += 1;
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        let way = self.next_crash();
        let number = self.ledger.crash();
        self.clients.crashed(number);
        let crashed = crash(&self.runner, way);
        self.crashed(way, crashed)
    }

    /// A crash while a library is being taken up.
    fn crash_in_between(&mut self) -> Result<()> {
        let way = self.next_crash();
        let wait = Duration::from_micros(self.random.u64(..60_000));
        self.lay_next()?;
        let (ledger, clients, runner) = (&self.ledger, &self.clients, &self.runner);
        let (crashed, reloaded) = std::thread::scope(|scope| {
            let reload = scope.spawn(|| runner.reload());
            let until = Instant::now() + wait;
            while let Some(rest) = until.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(rest);
            }
            let number = ledger.crash();
            clients.crashed(number);
            (crash(runner, way), reload.join())
        });
        let reloaded = reloaded.map_err(|_| anyhow::anyhow!("the reload panicked"))??;
        self.swapped(reloaded.done, &reloaded.lines);
        self.crashed(way, crashed)
    }

    fn next_crash(&mut self) -> Crash {
        let way = CRASHES[self.crashed as usize % CRASHES.len()];
        self.crashed += 1;
        way
    }

    /// Waits until calls are answered again.
    fn crashed(&mut self, way: Crash, crashed: bool) -> Result<()> {
        self.worker_since = Instant::now();
        if !crashed {
            self.ledger
                .fault(format!("{} did not end the worker", way.name()));
        }
        *self.done.crashes.entry(way.name()).or_default() += 1;
        let clients = &self.clients;
        self.runner.wait("calls are answered after a crash", |_| {
            clients.is_recovered().then_some(())
        })?;
        let took = self.ledger.last_recovery();
        let recoveries = self.done.recoveries.entry(way.name()).or_default();
        recoveries.extend(took);
        Ok(())
    }

    fn progress(&self) -> String {
        let (done, time) = (&self.done, self.started.elapsed().as_secs());
        let worker = self.samples.growth(|sample| Some(sample.worker?.memory));
        let memory = worker.map_or(0.0, |worker| worker.end / 1e3);
        self.ledger.look(|counts| {
            format!(
                "{time:>5} s: {} swaps, {} crashes, {} recycles; {} calls, {} lost, {} wrong, {} faults; worker {memory:.0} MB",
                done.swaps,
                self.crashed,
                done.recycles,
                counts.calls,
                counts.lost.values().sum::<u64>(),
                counts.wrong,
                counts.faulty,
            )
        })
    }
}
