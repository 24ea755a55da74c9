//! The other end of the admin socket: finds the runner that is meant, asks it, waits for its answer.

use std::io;
use std::time::Duration;

use super::message::{Answer, Request};
use super::place::{self, Found};
use crate::config::Config;
use crate::supervise::control;

/// Longer than the supervisor takes for anything.
const PATIENCE: Duration = Duration::from_secs(125);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no runner was found{}", .0.map(|pid| format!(" with process id {pid}")).unwrap_or_default())]
    NotFound(Option<u32>),
    /// More than one, and none was named.
    #[error("there are several runners: {}", .0.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<u32>),
    /// It is there and does not answer.
    #[error("the runner with process id {pid} did not answer: {cause}")]
    Silent { pid: u32, cause: io::Error },
}

/// Asks the runner of this process id, or the only one there is.
///
/// # Errors
/// There is none, or more than one, or it does not answer.
pub fn ask(config: &Config, pid: Option<u32>, request: &Request) -> Result<Answer, AskError> {
    let mut found = place::find(config);
    found.retain(|found| pid.is_none_or(|pid| found.pid == pid));
    let Found { path, pid } = match found.as_slice() {
        [] => return Err(AskError::NotFound(pid)),
        [one] => one,
        several => {
            return Err(AskError::Several(
                several.iter().map(|one| one.pid).collect(),
            ));
        }
    };
    let silent = |cause| AskError::Silent { pid: *pid, cause };
    let connection = place::connect(path).map_err(silent)?;
    exchange(connection, request).map_err(silent)
}

fn exchange(connection: std::os::unix::net::UnixStream, request: &Request) -> io::Result<Answer> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let (sender, mut receiver) = control::split(connection)?;
    sender.send(request)?;
    let answer = receiver.receive::<Answer>()?;
    let answer = answer.ok_or_else(|| io::Error::other("it closed the connection"))?;
    Ok(answer.message)
}
