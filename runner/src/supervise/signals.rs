//! The signals that the supervisor listens to. SIGPIPE is ignored by Rust's runtime already.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// SIGTERM or SIGINT: this one.
    Stop(&'static str),
    /// SIGHUP: look at the plugins folder, and at the configuration's log level.
    Rescan,
    /// SIGUSR1: the log file was rotated.
    ReopenLog,
}

/// The streams of signals.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
}

impl Signals {
    /// Takes the signals over from here on. Inside a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next signal. Losing the future loses no signal.
    pub(super) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wanted::Stop("SIGINT"),
            _ = self.hang_up.recv() => Wanted::Rescan,
            _ = self.user.recv() => Wanted::ReopenLog,
        }
    }
}
