//! A chain of plugins and a call through it, without a gateway and without a socket: for `call` and `check`. Everything
//! of the plugins runs in a process that is thrown away, by the code that serves a gateway; this side waits for it with
//! a deadline and says whose code ended it.

mod inside;
mod message;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use self::message::{FromRehearsal, ToRehearsal};
use super::output;
use super::prober::Groups;
use super::prober::child::{Child, Trouble};
use super::spawn::shared_page;
use super::staging::{Outcome, Place, Staging};
use super::trial;
use super::workshop::{Library, Refusal};
use crate::config::{Binding, Config};
use crate::dev::frames::Asked;
use crate::plugins::blame::{self, Ending, Running};
use crate::plugins::instance::Purpose;
use crate::request::step::Step;
use crate::telemetry::Lines;

pub use self::message::{Called, Configured, Started, Timed};

/// The token that stands in the calls of a rehearsal.
pub const TOKEN: u32 = inside::TOKEN;
/// What a step may take beyond its own deadline.
const MARGIN: Duration = Duration::from_secs(1);
/// The same call again runs as long as this at most.
const AGAIN: Duration = Duration::from_millis(300);

/// What to rehearse.
#[derive(Debug)]
pub struct Plan<'a> {
    /// As for `start`.
    pub config: &'a Config,
    /// What the plugins are told that they are started for.
    pub purpose: Purpose,
    /// The libraries, in the order in which they are opened.
    pub libraries: Vec<Copy>,
    /// Bindings, as `start` would give them to its worker.
    pub bindings: Vec<Binding>,
    /// The PREPARE_CONF payload of the chain.
    pub conf: Option<Vec<u8>>,
    /// What the gateway answers; everything else is absent.
    pub answers: Vec<(Asked, Vec<u8>)>,
    /// The payload of the call, with [`TOKEN`], and whether it is one about a response.
    pub call: Option<(bool, Vec<u8>)>,
    /// How often the call is run again, to time it.
    pub again: u32,
}

/// A private copy of a library.
#[derive(Debug)]
pub struct Copy {
    library: Library,
    memory: OwnedFd,
}

impl Copy {
    /// Checks and copies a file. Whose it is does not matter here.
    ///
    /// # Errors
    /// It is no library for this machine, or cannot be read.
    pub fn of(file: &Path, number: u64) -> Result<Self, Refusal> {
        let staging = Staging {
            place: Place::Memory,
            trust: trial::anybody(),
            allow: None,
            known: crate::supervise::last_good::Known::default(),
            seen: std::sync::Mutex::default(),
        };
        match staging.stage(file, number) {
            Outcome::Staged { library, copy, .. } => Ok(Self {
                library,
                memory: copy,
            }),
            Outcome::Refused(_, refusal) => Err(refusal),
            Outcome::Unsettled => Err(Refusal {
                cause: "it is being written, or gone again".to_owned(),
                hint: None,
            }),
        }
    }
}

/// What came of it, as far as it came.
#[derive(Debug, Default)]
pub struct Rehearsed {
    /// The libraries that have started.
    pub started: Vec<Started>,
    /// The chain.
    pub configured: Option<Configured>,
    /// The phases that ran.
    pub steps: Vec<Step>,
    /// The call.
    pub called: Option<Called>,
    /// The frame that the gateway would get.
    pub reply: Vec<u8>,
    /// The same call again.
    pub timed: Option<Timed>,
    /// Why it did not come to its end.
    pub broken: Option<Broken>,
}

/// Why a rehearsal did not come to its end.
#[derive(Debug)]
pub enum Broken {
    /// A library said no.
    Refused(Refusal),
    /// It ended the process: how, and whose code it was.
    Ended(String),
    /// It did not come back in time.
    Late(String),
    /// There is no process to be had.
    Impossible(String),
}

/// The hidden subcommand in whose process plugins run.
///
/// # Errors
/// When it cannot start.
pub fn main() -> anyhow::Result<()> {
    inside::main()
}

/// Rehearses. Call it on the main thread: the process of the plugins ends with the thread.
pub fn rehearse(plan: &Plan<'_>, lines: &Lines) -> Rehearsed {
    let mut rehearsed = Rehearsed::default();
    if let Err(broken) = play(plan, lines, &mut rehearsed) {
        rehearsed.broken = Some(broken);
    }
    output::wait_for_last_words(trial::LAST_WORDS);
    rehearsed
}

struct Play<'a> {
    plan: &'a Plan<'a>,
    child: Child,
    page: fs::File,
}

fn play(plan: &Plan<'_>, lines: &Lines, rehearsed: &mut Rehearsed) -> Result<(), Broken> {
    let impossible = |cause: String| Broken::Impossible(cause);
    let start = trial::start(plan.config).map_err(|error| impossible(format!("{error:#}")))?;
    let deadline = plan
        .config
        .plugins
        .probe_deadline
        .max(plan.config.calls.deadline)
        + MARGIN;
    let begin = || -> io::Result<_> {
        let child = Child::start("rehearsal", &Groups::default(), lines, deadline)?;
        Ok((child, shared_page()?))
    };
    let (child, page) = begin().map_err(|cause| impossible(cause.to_string()))?;
    let mut play = Play { plan, child, page };
    let begun = play
        .child
        .order(&ToRehearsal::Begin(Box::new(start)), &[play.page.as_fd()]);
    play.told(begun)?;
    play.open(rehearsed)?;
    play.run(rehearsed)
}

impl Play<'_> {
    fn open(&mut self, rehearsed: &mut Rehearsed) -> Result<(), Broken> {
        for Copy { library, memory } in &self.plan.libraries {
            let order = ToRehearsal::Library(Box::new(library.clone()), self.plan.purpose);
            let told = self.child.tell(&order, &[], &[memory.as_fd()]);
            self.told(told)?;
            match self.next()?.0 {
                FromRehearsal::Started(started) => rehearsed.started.push(*started),
                FromRehearsal::Refused(refusal) => return Err(Broken::Refused(refusal)),
                other => return Err(out_of_turn(&other)),
            }
        }
        Ok(())
    }

    fn run(&mut self, rehearsed: &mut Rehearsed) -> Result<(), Broken> {
        if !self.plan.bindings.is_empty() {
            let bindings = serde_json::to_vec(&self.plan.bindings);
            let bindings = bindings.map_err(|error| Broken::Impossible(error.to_string()))?;
            self.tell(&ToRehearsal::Bindings, &bindings)?;
        }
        if let Some(conf) = &self.plan.conf {
            self.tell(&ToRehearsal::Conf, conf)?;
            match self.next()?.0 {
                FromRehearsal::Configured(configured) => rehearsed.configured = Some(configured),
                other => return Err(out_of_turn(&other)),
            }
        }
        for (asked, answer) in &self.plan.answers {
            self.tell(&ToRehearsal::Answer(asked.clone()), answer)?;
        }
        if let Some((response, call)) = &self.plan.call {
            self.tell(
                &ToRehearsal::Call {
                    response: *response,
                },
                call,
            )?;
            self.call(rehearsed)?;
        }
        self.tell(&ToRehearsal::Finish, &[])
    }

    fn call(&mut self, rehearsed: &mut Rehearsed) -> Result<(), Broken> {
        loop {
            match self.next()? {
                (FromRehearsal::Step(step), _) => rehearsed.steps.push(step),
                (FromRehearsal::Called(called), reply) => {
                    rehearsed.called = Some(called);
                    rehearsed.reply = reply;
                    break;
                }
                (other, _) => return Err(out_of_turn(&other)),
            }
        }
        if self.plan.again == 0 {
            return Ok(());
        }
        let again = ToRehearsal::Again {
            times: self.plan.again,
            within_ms: u64::try_from(AGAIN.as_millis()).unwrap_or(u64::MAX),
        };
        self.tell(&again, &[])?;
        match self.next()?.0 {
            FromRehearsal::Timed(timed) => rehearsed.timed = Some(timed),
            other => return Err(out_of_turn(&other)),
        }
        Ok(())
    }

    fn tell(&mut self, message: &ToRehearsal, tail: &[u8]) -> Result<(), Broken> {
        let told = self.child.tell(message, tail, &[]);
        self.told(told)
    }

    fn told(&self, told: Result<(), Trouble>) -> Result<(), Broken> {
        told.map_err(|trouble| self.broken(&trouble))
    }

    fn next(&mut self) -> Result<(FromRehearsal, Vec<u8>), Broken> {
        let received = self.child.next();
        let received = received.map_err(|trouble| self.broken(&trouble))?;
        Ok((received.message, received.tail))
    }

    /// Says whose code it was.
    fn broken(&self, trouble: &Trouble) -> Broken {
        let mut bytes = vec![0; blame::BYTES];
        // What cannot be read blames nobody.
        let ending = match self.page.read_exact_at(&mut bytes, 0) {
            Ok(()) => blame::read(&bytes),
            Err(_) => blame::read(&[]),
        };
        match trouble {
            Trouble::Ended(status) => Broken::Ended(format!("{} ({status})", self.ended(&ending))),
            Trouble::Killed => {
                Broken::Ended("the process was killed: there may be too little memory".to_owned())
            }
            Trouble::Late(within) => {
                let running = ending.running.first().map(|running| self.named(*running));
                let running = running.unwrap_or_else(|| "the process".to_owned());
                Broken::Late(format!("{running} did not come back within {within:?}"))
            }
            Trouble::System(cause) => Broken::Impossible(cause.to_string()),
        }
    }

    fn ended(&self, ending: &Ending) -> String {
        match ending.culprit {
            Some(culprit) => {
                let did = if culprit.exited {
                    "called exit"
                } else {
                    "crashed"
                };
                format!(
                    "{} {did} and ended the process",
                    self.named(culprit.running)
                )
            }
            None => "the process ended, and nobody can be blamed".to_owned(),
        }
    }

    /// `libx.so in access`
    fn named(&self, running: Running) -> String {
        let mut libraries = self.plan.libraries.iter().map(|copy| &copy.library);
        let library = libraries.find(|library| library.generation == running.generation);
        let file = library.and_then(|library| library.file.file_name());
        let file = file.unwrap_or_default().to_string_lossy();
        format!("{file} in {}", running.doing())
    }
}

fn out_of_turn(message: &FromRehearsal) -> Broken {
    Broken::Impossible(format!(
        "the process said something out of turn: {message:?}"
    ))
}
