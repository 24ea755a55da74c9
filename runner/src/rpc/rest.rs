//! What becomes of a connection that is at a boundary between two calls, and those that are on their way out.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use crate::request::service::Call;

/// What becomes of a connection at a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum AtRest {
    /// It waits for the next call.
    Stays,
    /// It is given to another process.
    IsGiven,
    /// It is closed.
    Closes,
}

/// What becomes of connections at rest.
pub(super) struct Rest<C: Call> {
    mode: AtomicU8,
    given: Mutex<Vec<Arc<Connection<C>>>>,
    more: Condvar,
}

impl<C: Call> Default for Rest<C> {
    fn default() -> Self {
        Self {
            mode: AtomicU8::new(AtRest::Stays as u8),
            given: Mutex::default(),
            more: Condvar::new(),
        }
    }
}

impl<C: Call> Rest<C> {
    /// What becomes of them now.
    #[inline]
    pub(super) fn mode(&self) -> AtRest {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode == AtRest::Stays as u8 => AtRest::Stays,
            mode if mode == AtRest::IsGiven as u8 => AtRest::IsGiven,
            _ => AtRest::Closes,
        }
    }

    /// Changes what becomes of them. Once they are closed there is no way back.
    pub(super) fn set(&self, mode: AtRest) {
        let given = self.given();
        if self.mode() != AtRest::Closes {
            self.mode.store(mode as u8, Ordering::SeqCst);
        }
        drop(given);
        self.more.notify_all();
    }

    /// Passes on a connection that belongs to no loop any more; `false`: nobody takes it now.
    pub(super) fn give(&self, connection: &Arc<Connection<C>>) -> bool {
        let mut given = self.given();
        let wanted = self.mode() == AtRest::IsGiven;
        if wanted {
            given.push(Arc::clone(connection));
            self.more.notify_all();
        }
        wanted
    }

    /// All that were given, waiting at most `time` for the first.
    pub(super) fn take(&self, time: Duration) -> Vec<Arc<Connection<C>>> {
        let waited = self
            .more
            .wait_timeout_while(self.given(), time, |given| given.is_empty());
        let (mut given, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut given)
    }

    fn given(&self) -> MutexGuard<'_, Vec<Arc<Connection<C>>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
