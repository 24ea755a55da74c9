//! The process of a rehearsal: opens libraries, makes a chain and runs calls as a worker does, without a socket.

use std::collections::BTreeMap;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::message::{Called, Configured, FromRehearsal, Started, Timed, ToRehearsal};
use crate::config::Level;
use crate::dev::frames::{self, Asked};
use crate::plugins::blame;
use crate::plugins::generation::Generation;
use crate::plugins::instance::Purpose;
use crate::protocol::frame;
use crate::protocol::payload::Payload;
use crate::request::assign::AssignToken;
use crate::request::call::PluginCall;
use crate::request::calls::Calls;
use crate::request::chain::{Link, LinkState};
use crate::request::moment::Moment;
use crate::request::observer::{self, Observer, Passed};
use crate::request::plugin_log::Line;
use crate::request::service::{Ask, AskError, Blame, Call, CallKind, Service};
use crate::request::state::State;
use crate::request::step::{Logged, Step};
use crate::request::{host, log_phase};
use crate::supervise::control::{self, Receiver, Sender};
use crate::supervise::descriptors::take_stdin;
use crate::supervise::leave::leave;
use crate::supervise::workshop::{Library, Refusal};
use crate::supervise::{fit, privileges};
use crate::telemetry::{self, Sink, Telemetry};

/// The token of the only chain.
pub(super) const TOKEN: u32 = 1;
/// How long the log phase of a call may take.
const LOG: Duration = Duration::from_secs(10);
/// Bytes of a value that are shown.
const SHOWN: usize = 4096;
/// Events of a phase that are shown.
const LOGGED: usize = 100;

/// The hidden subcommand's whole life; stdin is the control socket. Does not return to run destructors.
///
/// # Errors
/// When it cannot start.
pub(super) fn main() -> anyhow::Result<()> {
    let control = UnixStream::from(take_stdin().context("cannot take over stdin")?);
    let (sender, mut receiver) = control::split(control)?;
    let first = receiver.receive::<ToRehearsal>();
    let first = first
        .context("stdin is not a control socket: only `call` and `check` can start a rehearsal")?;
    let Some(first) = first else { leave(0) };
    let (ToRehearsal::Begin(start), Ok([log, page])) =
        (first.message, <[OwnedFd; 2]>::try_from(first.descriptors))
    else {
        bail!("the first message is not a whole `Begin`");
    };
    blame::share(page.as_fd()).context("cannot share what tells whose code runs")?;
    privileges::give_up(&start, c"plugin-trial")?;
    let level = start.config.logging.level;
    let telemetry = Telemetry::init(level, start.style, Sink::Open(log.into()))?;
    blame::install().context("cannot handle signals")?;
    blame::remember_exit().context("cannot handle the end")?;
    let calls = Calls::new(start.config.clone(), Arc::new(OneToken))?;
    let asked = Arc::<Mutex<Vec<Asked>>>::default();
    let watching = Arc::new(AtomicBool::new(true));
    observer::watch(Box::new(Watcher {
        sender: sender.clone(),
        watching: Arc::clone(&watching),
        asked: Arc::clone(&asked),
        logged: Mutex::default(),
    }));
    let mut stage = Stage {
        calls,
        sender,
        gateway: Gateway {
            answers: BTreeMap::new(),
            asked,
        },
        copies: Vec::new(),
        call: None,
        watching,
    };
    let ended = stage.play(receiver);
    drop(telemetry); // writes what is not written yet
    leave(u8::from(ended.is_err()))
}

/// There is one chain.
struct OneToken;

impl AssignToken for OneToken {
    fn assign(&self, _: &[u8]) -> Result<u32, String> {
        Ok(TOKEN)
    }

    fn forget(&self, _: u32) {}
}

struct Stage {
    calls: Calls,
    sender: Sender,
    gateway: Gateway,
    /// Held, as the copies are opened by their paths.
    copies: Vec<OwnedFd>,
    call: Option<(CallKind, Vec<u8>)>,
    watching: Arc<AtomicBool>,
}

impl Stage {
    fn play(&mut self, mut receiver: Receiver) -> anyhow::Result<()> {
        while let Some(received) = receiver.receive::<ToRehearsal>()? {
            match received.message {
                ToRehearsal::Begin(_) => bail!("a second `Begin`"),
                ToRehearsal::Library(library, purpose) => {
                    self.copies.extend(received.descriptors);
                    let said = match self.load(*library, purpose) {
                        Ok(started) => FromRehearsal::Started(Box::new(started)),
                        Err(refusal) => FromRehearsal::Refused(refusal),
                    };
                    self.sender.send(&said)?;
                }
                ToRehearsal::Bindings => self.calls.bind(serde_json::from_slice(&received.tail)?),
                ToRehearsal::Conf => {
                    let configured = self.configure(&received.tail)?;
                    self.sender.send(&FromRehearsal::Configured(configured))?;
                }
                ToRehearsal::Answer(asked) => {
                    self.gateway.answers.insert(asked, received.tail);
                }
                ToRehearsal::Call { response } => self.first_call(response, received.tail)?,
                ToRehearsal::Again { times, within_ms } => {
                    let timed = self.again(times, Duration::from_millis(within_ms))?;
                    self.sender.send(&FromRehearsal::Timed(timed))?;
                }
                ToRehearsal::Finish => break,
            }
        }
        Ok(())
    }

    fn load(&mut self, mut library: Library, purpose: Purpose) -> Result<Started, Refusal> {
        if let Some(copy) = self.copies.last() {
            library.path = format!("/proc/self/fd/{}", copy.as_raw_fd()).into();
        }
        let config = self.calls.config();
        let candidate = fit::candidate(&library, &config.plugins)?;
        let opening = Instant::now();
        let module = candidate.open()?;
        let opened_ns = ns(opening.elapsed());
        let mapped = crate::supervise::worker::mapped_name(&library.path);
        blame::note_range(library.generation, &mapped);
        let starting = Instant::now();
        let generation = Generation::start(candidate, module, purpose, config, host::host())?;
        let schema = generation
            .schema
            .as_ref()
            .map(|schema| schema.value().clone());
        let started = Started {
            plugin: fit::offer(&generation),
            schema: schema.unwrap_or_default(),
            opened_ns,
            started_ns: ns(starting.elapsed()),
        };
        self.calls.registry().add(&generation);
        Ok(started)
    }

    fn configure(&mut self, payload: &[u8]) -> anyhow::Result<Configured> {
        let begun = Instant::now();
        self.calls.open(&BTreeMap::new(), Duration::ZERO);
        self.calls.remember(TOKEN, payload);
        // A call of this chain waits for its confs; it is never run.
        let request = frames::Request {
            method: "GET".to_owned(),
            ..frames::Request::default()
        };
        let payload = frames::request(&request, TOKEN).unwrap_or_default();
        let call = self.admit(CallKind::Request, payload)?;
        let links = call.snapshot().links.iter();
        let plugins = links.map(|link| (link.name.clone(), reason(link)));
        Ok(Configured {
            took_ns: ns(begun.elapsed()),
            plugins: plugins.collect(),
            bound: self.calls.of_bindings(reason),
        })
    }

    /// A call whose confs are configured.
    fn admit(&self, kind: CallKind, payload: Vec<u8>) -> anyhow::Result<PluginCall> {
        let call = self.calls.admit(kind, payload.into(), Moment::now());
        let Ok(mut call) = call else {
            bail!("the call cannot be read");
        };
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        while let Some(mut pending) = call.pending() {
            waiting.block_on(pending.wait_for(|ready| *ready))?;
        }
        Ok(call)
    }

    fn first_call(&mut self, response: bool, payload: Vec<u8>) -> anyhow::Result<()> {
        let kind = if response {
            CallKind::Response
        } else {
            CallKind::Request
        };
        self.call = Some((kind, payload));
        // What the plugins that are bound ask is known after the first call of a route: this is a later one.
        if self.calls.bound() > 0 {
            self.begin()?;
        }
        let mut reply = Vec::new();
        let called = self.run(&mut reply)?;
        log_phase::drain(LOG);
        Ok(self
            .sender
            .send_with(&FromRehearsal::Called(called), &reply, &[])?)
    }

    fn run(&mut self, reply: &mut Vec<u8>) -> anyhow::Result<Called> {
        let (mut call, begun, declared) = self.begin()?;
        let deadline = begun + self.calls.config().calls.deadline;
        call.run(deadline, &Blame::of_this_thread(), &mut self.gateway, reply);
        let took_ns = ns(begun.elapsed());
        if self.watching.load(Ordering::Relaxed) {
            call.finish(true);
        }
        Ok(Called { took_ns, declared })
    }

    /// A call that has what it declares, since when, and what it asked.
    fn begin(&self) -> anyhow::Result<(PluginCall, Moment, Vec<String>)> {
        let Some((kind, payload)) = self.call.clone() else {
            bail!("there is no call");
        };
        let mut call = self.admit(kind, payload)?;
        let begun = Moment::now();
        let mut questions = Vec::new();
        call.questions(&mut questions);
        let mut declared = Vec::new();
        let mut rest = questions.as_slice();
        while let Some((frame, length)) = frame::decode(rest) {
            let asked =
                frames::asked(frame.payload).context("a question that nobody understands")?;
            let answer = self.gateway.answer(&asked);
            declared.push(words(&asked));
            if call.answer(answer.into()).is_err() {
                bail!("an answer cannot be read");
            }
            rest = &rest[length..];
        }
        Ok((call, begun, declared))
    }

    /// Not watched and not logged: nobody but the clock looks at it.
    fn again(&mut self, times: u32, within: Duration) -> anyhow::Result<Timed> {
        self.watching.store(false, Ordering::Relaxed);
        telemetry::set_level(Level::Error);
        for generation in self.calls.registry().alive() {
            generation.set_level(Level::Error as u32);
        }
        let begun = Instant::now();
        let mut took = Vec::new();
        for _ in 0..times {
            if begun.elapsed() > within {
                break;
            }
            took.push(self.run(&mut Vec::new())?.took_ns);
        }
        took.sort_unstable();
        Ok(Timed {
            calls: u32::try_from(took.len()).unwrap_or(u32::MAX),
            median_ns: took.get(took.len() / 2).copied().unwrap_or_default(),
            slowest_ns: took.last().copied().unwrap_or_default(),
        })
    }
}

/// Answers as the gateway would, and notes what was not declared.
struct Gateway {
    answers: BTreeMap<Asked, Vec<u8>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Gateway {
    fn answer(&self, asked: &Asked) -> Vec<u8> {
        frames::answer(self.answers.get(asked).map(Vec::as_slice))
    }
}

impl Ask for Gateway {
    fn ask(&mut self, question: &[u8]) -> Result<Payload, AskError> {
        let (frame, _) = frame::decode(question).ok_or(AskError::Protocol)?;
        let asked = frames::asked(frame.payload).ok_or(AskError::Protocol)?;
        let answer = self.answer(&asked);
        lock(&self.asked).push(asked);
        Ok(answer.into())
    }
}

/// Says what each phase did.
struct Watcher {
    sender: Sender,
    /// Until the first call is over.
    watching: Arc<AtomicBool>,
    /// What the phase that runs has asked so far.
    asked: Arc<Mutex<Vec<Asked>>>,
    /// What it has logged so far.
    logged: Mutex<Vec<Logged>>,
}

impl Observer for Watcher {
    fn watches(&self, _: &State<'_>) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    fn logged(&self, line: &Line<'_>) {
        let mut logged = lock(&self.logged);
        if logged.len() < LOGGED {
            logged.push(Logged::of(line, SHOWN));
        }
    }

    fn left(&self, state: &State<'_>, phase: &Passed<'_, '_>) {
        let mut step = Step::of(state, phase, SHOWN);
        step.asked = mem::take(&mut *lock(&self.asked))
            .iter()
            .map(words)
            .collect();
        step.logged = mem::take(&mut *lock(&self.logged));
        // Whoever wants to know it and is gone ends us soon.
        let _ = self.sender.send(&FromRehearsal::Step(step));
    }

    /// `log` is still to come.
    fn over(&self, _: &State<'_>) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the plugin cannot run.
fn reason(link: &Link) -> Option<String> {
    match &link.state {
        LinkState::Failing(reason) => Some(reason.to_string()),
        LinkState::Ready(_) | LinkState::Unbound => None,
    }
}

fn words(asked: &Asked) -> String {
    match asked {
        Asked::Variable(name) => format!("variable {}", String::from_utf8_lossy(name)),
        Asked::RequestBody => "request_body".to_owned(),
        Asked::ResponseBody => "response_body".to_owned(),
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
