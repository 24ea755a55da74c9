//! The worker process: gives up its privileges, then does what the supervisor says until it is gone. Runs no author
//! code on the thread that listens to the supervisor.

mod assigner;
mod inside;
mod memory;
mod orders;
mod serving;
mod states;
mod steps;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::{Context, bail};

use self::assigner::Assigner;
use self::orders::Orders;
use super::control::message::{FromWorker, ToWorker};
use super::control::{self, Receiver, Sender};
use super::descriptors::take_stdin;
use super::leave::leave;
use super::workshop::Factory;
use super::{heap, privileges};
use crate::config::Config;
use crate::plugins::blame;
use crate::telemetry::{self, Sink, Telemetry};

pub use self::inside::inside;
pub(super) use self::memory::mapped_name;

/// The hidden subcommand's whole life; stdin is the control socket. Does not return to run destructors when the
/// supervisor is gone.
///
/// # Errors
/// When the worker cannot start. The supervisor shows what is then printed.
pub fn main(factory: &Factory) -> anyhow::Result<()> {
    heap::keep_few();
    let control = UnixStream::from(take_stdin().context("cannot take over stdin")?);
    let (sender, mut receiver) = control::split(control)?;
    let start = receiver.receive::<ToWorker>();
    let start = start.context("stdin is not a control socket: only `start` can start a worker")?;
    let Some(start) = start else { leave(0) };
    let ToWorker::Start(message) = start.message else {
        bail!("the supervisor's first message is not `Start`");
    };
    let Ok([listener, log, page]) = <[OwnedFd; 3]>::try_from(start.descriptors) else {
        bail!("the supervisor's first message came without its descriptors");
    };
    blame::share(page.as_fd()).context("cannot share what tells whose code runs")?;
    drop(page);
    privileges::give_up(&message, c"plugin-worker")?;
    let level = message.config.logging.level;
    let telemetry = Telemetry::init(level, message.style, Sink::Open(log.into()))?;
    blame::install().context("cannot handle signals")?;
    blame::remember_exit().context("cannot handle the end")?;
    let ended = serve(message.config, listener, sender, receiver, factory);
    if let Err(error) = &ended {
        tracing::error!(cause = format!("{error:#}"), "the worker cannot go on");
    }
    drop(telemetry); // writes what is not written yet
    leave(u8::from(ended.is_err()))
}

/// The same inside the supervisor's process (`--no-supervisor`), until the other end is closed.
pub(super) fn serve_in_process(control: UnixStream, factory: &Factory) -> anyhow::Result<()> {
    let (sender, mut receiver) = control::split(control)?;
    let Some(start) = receiver.receive::<ToWorker>()? else {
        return Ok(());
    };
    let mut descriptors = start.descriptors.into_iter();
    match (start.message, descriptors.next()) {
        (ToWorker::Start(message), Some(listener)) => {
            serve(message.config, listener, sender, receiver, factory)
        }
        _ => bail!("the supervisor's first message is not a whole `Start`"),
    }
}

fn serve(
    config: Config,
    listener: OwnedFd,
    sender: Sender,
    receiver: Receiver,
    factory: &Factory,
) -> anyhow::Result<()> {
    let assigner = Arc::new(Assigner::new(sender.clone()));
    let workshop = factory(config, assigner.clone())?;
    sender.send(&FromWorker::Ready)?;
    let orders = Orders::new(workshop, listener, assigner, sender)?;
    orders.follow(receiver).context("the control socket failed")
}

/// Changes the level of this process's own events, then of the plugins'.
fn set_level(workshop: &dyn super::workshop::Workshop, level: crate::config::Level) {
    telemetry::set_level(level);
    workshop.set_level(level);
}
