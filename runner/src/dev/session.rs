//! The gateway's side of the runner's socket: connections, frames, conf tokens, call ids.
//! It knows nothing of HTTP and decides nothing about a request.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::reply::{self, Unreadable};
use super::routes::Hook;
use super::wire;

/// gateway: `settimeouts(1000, 60000, 60000)`, a pool of 32 with 180 s, a lock that waits 5 s, tokens for an hour.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IO_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(180);
const IDLE_CONNECTIONS: usize = 32;
const PREPARE_LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
const IDS: u32 = 1 << 22;
const CONF_TOKEN_NOT_FOUND: u8 = 2;

/// Why a call has no result.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Failure {
    /// The gateway answers 503, or lets the request pass with `allow_degradation`.
    #[error("{0}")]
    Call(String),
    /// The runner does not know the token: the gateway forgets all tokens and tries again.
    #[error("{0}: conf token not found")]
    TokenNotFound(&'static str),
    /// The gateway's own code breaks on the reply: 500, whatever `allow_degradation` says.
    #[error("{0}")]
    Broken(String),
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Broken(error.to_string())
    }
}

/// One runner as one nginx worker sees it.
pub(super) struct Session {
    socket: PathBuf,
    idle: Mutex<Vec<(UnixStream, Instant)>>,
    tokens: Mutex<HashMap<String, (u32, Instant)>>,
    prepare: tokio::sync::Mutex<()>,
    next_id: AtomicU32,
}

impl Session {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            idle: Mutex::default(),
            tokens: Mutex::default(),
            prepare: tokio::sync::Mutex::new(()),
            next_id: AtomicU32::new(0),
        }
    }

    /// The id of the next call, from 0, within 22 bits.
    pub(super) fn next_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed) % IDS
    }

    /// Forgets all tokens: after a runner's end, a reload of the routes, or CONF_TOKEN_NOT_FOUND.
    pub(super) fn flush_tokens(&self) {
        lock(&self.tokens).clear();
    }

    /// A connection at a call boundary: the last one used that is still clean, or a new one.
    pub(super) async fn connect(&self) -> Result<Connection<'_>, Failure> {
        while let Some((stream, since)) = self.pop_idle() {
            if since.elapsed() < IDLE_TIMEOUT && is_quiet(&stream) {
                return Ok(Connection {
                    stream,
                    session: self,
                });
            }
        }
        let failed = |cause: String| {
            let socket = self.socket.display();
            Failure::Call(format!(
                "failed to connect to the unix socket {socket}: {cause}"
            ))
        };
        match timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => Ok(Connection {
                stream,
                session: self,
            }),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("timeout".to_owned())),
        }
    }

    /// The token for a hook's configuration, asked on a connection of its own if it is not known.
    pub(super) async fn token(&self, hook: &Hook) -> Result<u32, Failure> {
        if let Some(token) = self.known_token(&hook.key) {
            return Ok(token);
        }
        let mut connection = self.connect().await?;
        let locked = timeout(PREPARE_LOCK_TIMEOUT, self.prepare.lock()).await;
        let _guard =
            locked.map_err(|_| Failure::Call("failed to acquire the lock: timeout".to_owned()))?;
        let token = match self.known_token(&hook.key) {
            Some(token) => token,
            None => self.prepare_conf(&mut connection, hook).await?,
        };
        connection.keep();
        Ok(token)
    }

    async fn prepare_conf(
        &self,
        connection: &mut Connection<'_>,
        hook: &Hook,
    ) -> Result<u32, Failure> {
        const CALL: &str = "RPC_PREPARE_CONF";
        let payload = wire::prepare_conf(&hook.key, hook.conf.as_deref());
        connection.send(wire::PREPARE_CONF, &payload, CALL).await?;
        let (kind, payload) = connection.receive(CALL).await?;
        if kind != wire::PREPARE_CONF {
            return Err(Failure::Call(format!(
                "failed to receive {CALL}: unexpected type {kind}"
            )));
        }
        let token = reply::conf_token(&payload)?;
        lock(&self.tokens).insert(hook.key.clone(), (token, Instant::now()));
        Ok(token)
    }

    fn known_token(&self, key: &str) -> Option<u32> {
        let tokens = lock(&self.tokens);
        let (token, since) = tokens.get(key)?;
        (since.elapsed() < TOKEN_LIFETIME).then_some(*token)
    }

    fn pop_idle(&self) -> Option<(UnixStream, Instant)> {
        lock(&self.idle).pop()
    }
}

/// One connection to the runner; dropping it closes it, which is what the gateway does after any failure.
pub(super) struct Connection<'a> {
    stream: UnixStream,
    session: &'a Session,
}

impl Connection<'_> {
    /// Writes one frame. `call` names the exchange in errors.
    pub(super) async fn send(
        &mut self,
        kind: u8,
        payload: &[u8],
        call: &str,
    ) -> Result<(), Failure> {
        let failed = |cause: String| Failure::Call(format!("failed to send {call}: {cause}"));
        let length = payload.len();
        if length > wire::MAX_PAYLOAD {
            let max = wire::MAX_PAYLOAD;
            return Err(failed(format!(
                "the max length of data is {max} but got {length}"
            )));
        }
        let [_, high, middle, low] = (length as u32).to_be_bytes();
        let mut frame = Vec::with_capacity(4 + length);
        frame.extend_from_slice(&[kind, high, middle, low]);
        frame.extend_from_slice(payload);
        match timeout(IO_TIMEOUT, self.stream.write_all(&frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("timeout".to_owned())),
        }
    }

    /// Reads one frame; an ERROR frame is a failure.
    pub(super) async fn receive(&mut self, call: &'static str) -> Result<(u8, Vec<u8>), Failure> {
        let mut header = [0; 4];
        self.fill(&mut header, call).await?;
        let [kind, high, middle, low] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.fill(&mut payload, call).await?;
        if kind != wire::ERROR {
            return Ok((kind, payload));
        }
        let reason = match reply::error_code(&payload)? {
            0 => "bad request".to_owned(),
            1 => "service unavailable".to_owned(),
            CONF_TOKEN_NOT_FOUND => return Err(Failure::TokenNotFound(call)),
            code => format!("unknown err {code}"),
        };
        Err(Failure::Call(format!("failed to receive {call}: {reason}")))
    }

    /// Gives the connection back to the pool; a full pool closes its oldest.
    pub(super) fn keep(self) {
        let mut idle = lock(&self.session.idle);
        idle.retain(|(_, since)| since.elapsed() < IDLE_TIMEOUT);
        if idle.len() >= IDLE_CONNECTIONS {
            idle.remove(0);
        }
        idle.push((self.stream, Instant::now()));
    }

    async fn fill(&mut self, mut buffer: &mut [u8], call: &str) -> Result<(), Failure> {
        let failed = |cause: &str| Err(Failure::Call(format!("failed to receive {call}: {cause}")));
        while !buffer.is_empty() {
            match timeout(IO_TIMEOUT, self.stream.read(buffer)).await {
                Ok(Ok(0)) => return failed("closed"),
                Ok(Ok(count)) => buffer = &mut buffer[count..],
                Ok(Err(error)) => return failed(&error.to_string()),
                Err(_) => return failed("timeout"),
            }
        }
        Ok(())
    }
}

/// True if nothing came on an idle connection: neither its end nor a second reply.
fn is_quiet(stream: &UnixStream) -> bool {
    let peek = rustix::net::recv(
        stream,
        &mut [0_u8; 1][..],
        RecvFlags::PEEK | RecvFlags::DONTWAIT,
    );
    matches!(peek, Err(rustix::io::Errno::AGAIN))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
