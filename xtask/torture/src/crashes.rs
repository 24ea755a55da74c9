//! The ways in which a worker ends too early: from outside, and by a plugin's own doing.

use e2e::gateway::Gateway;
use e2e::message::{HTTP_REQ_CALL, PREPARE_CONF, Request, prepare_payload, read_token};
use rustix::process::Signal;

use crate::routes::PLUGIN;
use crate::runner::Runner;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Somebody sends the worker a signal.
    Signal(&'static str, Signal),
    /// A call to the plugin in this mode.
    Call(&'static str),
}

/// All ways, in turn.
pub const CRASHES: [Crash; 14] = [
    Crash::Signal("SIGKILL", Signal::KILL),
    Crash::Call("segfault"),
    Crash::Signal("SIGSEGV", Signal::SEGV),
    Crash::Call("abort"),
    Crash::Signal("SIGABRT", Signal::ABORT),
    Crash::Call("exit"),
    Crash::Signal("SIGBUS", Signal::BUS),
    Crash::Call("stack_overflow"),
    Crash::Signal("SIGILL", Signal::ILL),
    Crash::Call("sigbus"),
    Crash::Call("sigill"),
    Crash::Call("thread_crash"),
    Crash::Signal("SIGFPE", Signal::FPE),
    Crash::Call("allocate_all"),
];

impl Crash {
    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signal(name, _) | Self::Call(name) => name,
        }
    }
}

/// Makes the worker crash. A call has a connection of its own, which closes.
pub fn crash(runner: &Runner, way: Crash) -> bool {
    match way {
        Crash::Signal(_, signal) => runner.kill_worker(signal),
        Crash::Call(mode) => call(runner, mode),
    }
}

fn call(runner: &Runner, mode: &str) -> bool {
    let mut gateway = Gateway::connect(&runner.socket());
    let conf = format!(r#"{{"mode": "{mode}"}}"#);
    let key = format!("route#{mode}#ext-plugin-pre-req#1");
    gateway.send(PREPARE_CONF, &prepare_payload(&key, &[(PLUGIN, &conf)]));
    let Ok(Some(frame)) = gateway.try_receive() else {
        return false;
    };
    let Some(token) = read_token(&frame.payload).filter(|_| frame.kind == PREPARE_CONF) else {
        return false;
    };
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    gateway.is_closed()
}
