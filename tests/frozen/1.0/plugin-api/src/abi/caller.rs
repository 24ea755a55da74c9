//! The plugin's side of the host functions: safe methods over one call.

#![expect(
    unsafe_code,
    reason = "vouches for the lifetime of what the host hands out"
)]

use std::marker::PhantomData;

use super::host::HostRef;
use super::numbers;
use super::values::{Bytes, CallPointer, Found};
use crate::{Error, Result};

/// What a [`Found`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'call> {
    /// There is no such thing.
    Absent,
    /// A name without a value.
    Valueless,
    /// The bytes.
    Present(&'call [u8]),
}

impl<'call> Lookup<'call> {
    /// The bytes, if there are any.
    pub fn bytes(self) -> Option<&'call [u8]> {
        match self {
            Self::Present(bytes) => Some(bytes),
            Self::Absent | Self::Valueless => None,
        }
    }
}

/// One call, seen from the plugin. It stays on the thread and inside the phase that it was made for; what it hands
/// out lives until the end of the call.
#[derive(Debug, Clone)]
pub struct Caller<'call> {
    host: HostRef,
    call: CallPointer,
    // Invariant: a longer or a shorter `'call` would both be wrong.
    lifetime: PhantomData<fn(&'call ()) -> &'call ()>,
}

impl<'call> Caller<'call> {
    /// Wraps what the host gave to the phase.
    ///
    /// # Safety
    /// `call` is a call of `host` that lives as long as `'call`, and this thread runs a phase of it.
    pub unsafe fn new(host: HostRef, call: CallPointer) -> Self {
        Self {
            host,
            call,
            lifetime: PhantomData,
        }
    }

    /// See [`numbers::number`].
    pub fn number(&self, what: u32) -> u64 {
        self.host.number()(self.call, what)
    }

    /// See [`numbers::number`].
    pub fn set_number(&self, what: u32, value: u64) -> Result<()> {
        self.check(self.host.set_number()(self.call, what, value))
    }

    /// See [`numbers::text`].
    pub fn text(&self, what: u32) -> Option<&'call [u8]> {
        self.lookup(self.host.text()(self.call, what)).bytes()
    }

    /// See [`numbers::text`].
    pub fn set_text(&self, what: u32, value: &[u8]) -> Result<()> {
        self.check(self.host.set_text()(self.call, what, Bytes::new(value)))
    }

    /// See [`numbers::text`].
    pub fn clear_text(&self, what: u32) -> Result<()> {
        self.check(self.host.clear_text()(self.call, what))
    }

    /// See [`numbers::map`].
    pub fn get(&self, map: u32, name: &[u8], nth: usize) -> Lookup<'call> {
        self.lookup(self.host.get()(self.call, map, Bytes::new(name), nth))
    }

    /// See [`numbers::map`]. `None` behind the last entry.
    pub fn entry(&self, map: u32, index: usize) -> Option<(&'call [u8], Lookup<'call>)> {
        let entry = self.host.entry()(self.call, map, index);
        let name = self.lookup(entry.name).bytes()?;
        Some((name, self.lookup(entry.value)))
    }

    /// See [`numbers::edit`].
    pub fn edit(&self, map: u32, edit: u32, name: &[u8], value: &[u8]) -> Result<()> {
        self.check(self.host.edit()(
            self.call,
            map,
            edit,
            Bytes::new(name),
            Bytes::new(value),
        ))
    }

    /// See [`numbers::ask`].
    pub fn ask(&self, what: u32, name: &[u8]) -> Result<Option<&'call [u8]>> {
        let found = self.host.ask()(self.call, what, Bytes::new(name));
        match found.state {
            numbers::FAILED => Err(self.reason()),
            _ => Ok(self.lookup(found).bytes()),
        }
    }

    fn lookup(&self, found: Found) -> Lookup<'call> {
        // SAFETY: `found` came from the host of this call, which lives as long as `'call` (see `new`).
        match unsafe { found.value() } {
            Some(bytes) => Lookup::Present(bytes),
            None if found.state == numbers::VALUELESS => Lookup::Valueless,
            None => Lookup::Absent,
        }
    }

    fn check(&self, code: u32) -> Result<()> {
        match code {
            numbers::OK => Ok(()),
            numbers::UNSUPPORTED => Err(Error::new(
                "this runner is too old for that, or the phase does not have it",
            )),
            _ => Err(self.reason()),
        }
    }

    fn reason(&self) -> Error {
        let text = self.lookup(self.host.error_text()(self.call)).bytes();
        Error::new(String::from_utf8_lossy(
            text.unwrap_or(b"the runner refused"),
        ))
    }
}
