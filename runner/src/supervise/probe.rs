//! The probe process: opens one library, starts it and configures it with live confs, under a deadline that the
//! supervisor keeps. Serves nothing and is thrown away.

mod inside;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};

use super::control::message::{Examination, FromProbe, ToProbe};
use super::control::{self, Receiver, Sender};
use super::descriptors::take_stdin;
use super::leave::leave;
use super::privileges;
use super::workshop::{Examine, Examiner, Library, Refusal};
use crate::config::Level;
use crate::telemetry::{Sink, Telemetry};

pub use self::inside::inside;

/// The hidden subcommand's whole life; stdin is the control socket. Does not return to run destructors.
///
/// # Errors
/// When the probe cannot start. The supervisor shows what is then printed.
pub fn main(examiner: &Examiner) -> anyhow::Result<()> {
    let control = UnixStream::from(take_stdin().context("cannot take over stdin")?);
    let (sender, mut receiver) = control::split(control)?;
    let first = receiver.receive::<ToProbe>();
    let first = first.context("stdin is not a control socket: only `start` can start a probe")?;
    let Some(first) = first else { leave(0) };
    let ToProbe::Examine(order) = first.message else {
        bail!("the supervisor's first message is not `Examine`");
    };
    let Examination { start, mut library } = *order;
    let mut descriptors = first.descriptors.into_iter();
    let Some(log) = descriptors.next() else {
        bail!("the supervisor's first message came without its descriptors");
    };
    privileges::give_up(&start, c"plugin-probe")?;
    // Held until the process ends: the copy is opened by this path.
    let memory = descriptors.next();
    if let Some(memory) = &memory {
        library.path = format!("/proc/self/fd/{}", memory.as_raw_fd()).into();
    }
    let telemetry = telemetry(start.config.logging.level, start.style, log)?;
    let examine = examiner(start.config);
    let ended = examine_all(examine, &library, &sender, receiver);
    drop(telemetry); // writes what is not written yet
    leave(u8::from(ended.is_err()))
}

/// What goes well is said again by the worker that loads the library: only trouble is logged here, unless more than
/// usual is wanted.
fn telemetry(
    level: Level,
    style: crate::telemetry::Style,
    log: OwnedFd,
) -> anyhow::Result<Telemetry> {
    let level = if level == Level::Info {
        Level::Warn
    } else {
        level
    };
    Ok(Telemetry::init(level, style, Sink::Open(log.into()))?)
}

fn examine_all(
    mut examine: Box<dyn Examine>,
    library: &Library,
    sender: &Sender,
    receiver: Receiver,
) -> anyhow::Result<()> {
    if let Err(refusal) = start(examine.as_mut(), library, sender)? {
        sender.send(&FromProbe::Refused(refusal))?;
        return Ok(());
    }
    configure_all(examine.as_mut(), sender, receiver)
}

/// Until the library has started, or refused to.
fn start(
    examine: &mut dyn Examine,
    library: &Library,
    sender: &Sender,
) -> anyhow::Result<Result<(), Refusal>> {
    if let Err(refusal) = examine.check(library) {
        return Ok(Err(refusal));
    }
    sender.send(&FromProbe::Opening)?;
    if let Err(refusal) = examine.open() {
        return Ok(Err(refusal));
    }
    sender.send(&FromProbe::Opened)?;
    match examine.start() {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(plugins) => sender.send(&FromProbe::Started(plugins))?,
    }
    Ok(Ok(()))
}

fn configure_all(
    examine: &mut dyn Examine,
    sender: &Sender,
    mut receiver: Receiver,
) -> anyhow::Result<()> {
    while let Some(received) = receiver.receive::<ToProbe>()? {
        match received.message {
            ToProbe::Examine(_) => bail!("a second `Examine`"),
            ToProbe::Conf => {
                let configured = examine.configure(&received.tail);
                sender.send(&FromProbe::Configured(configured))?;
            }
            ToProbe::Finish => {
                examine.finish();
                sender.send(&FromProbe::Finished)?;
                break;
            }
        }
    }
    Ok(())
}
