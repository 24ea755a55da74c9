//! A host in the place of the runner: the functions of the contract over a [`State`]. Decides nothing.

#![expect(
    unsafe_code,
    reason = "turns the pointers of the contract back into the call"
)]

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use abi_stable::prefix_type::PrefixTypeTrait;

use super::call::{Data, Entry, Refusal, State};
use super::events;
use crate::abi::numbers::{self, map};
use crate::abi::{Bytes, CallPointer, Found, FoundEntry, Host, HostRef};

/// The one host of this process.
pub(super) fn host() -> HostRef {
    static HOST: OnceLock<HostRef> = OnceLock::new();
    *HOST.get_or_init(|| {
        let host = Host {
            log: events::take,
            number,
            set_number,
            text,
            set_text,
            clear_text,
            get,
            entry,
            edit,
            ask,
            error_text,
            #[cfg(feature = "next-minor")]
            next_minor,
        };
        host.leak_into_prefix()
    })
}

#[cfg(feature = "next-minor")]
extern "C" fn next_minor() -> u32 {
    1
}

struct Call {
    state: RefCell<State>,
    reason: RefCell<Data>,
    /// All that was handed out: it has to stay until the end of the call.
    kept: RefCell<Vec<Data>>,
}

/// Lets `phase` work on `state`, and gives the state back.
pub(super) fn lend(state: State, phase: impl FnOnce(CallPointer) -> u32) -> (State, u32) {
    let call = Call {
        state: RefCell::new(state),
        reason: RefCell::new(Data::from([])),
        kept: RefCell::new(Vec::new()),
    };
    let pointer = std::ptr::from_ref(&call).cast_mut().cast();
    let decision = phase(CallPointer { pointer });
    (call.state.into_inner(), decision)
}

/// Whom a pointer of the contract points to.
fn with<T>(call: CallPointer, work: impl FnOnce(&Call) -> T) -> T {
    // SAFETY: `lend` made the pointer from a `Call` that lives until the phase is over; a plugin uses it only while
    // the phase runs and on its thread (`Caller::new`), and nothing here holds a mutable borrow of it.
    work(unsafe { &*call.pointer.cast::<Call>() })
}

fn taken(bytes: Bytes) -> Data {
    // SAFETY: the plugin's bytes live until the host function returns.
    Data::from(unsafe { bytes.as_slice() })
}

impl Call {
    fn hand_out(&self, data: &Data) -> Found {
        self.kept.borrow_mut().push(Arc::clone(data));
        Found::present(data)
    }

    fn refuse(&self, reason: String) {
        *self.reason.borrow_mut() = reason.into_bytes().into();
    }

    fn code(&self, changed: Result<(), Refusal>) -> u32 {
        match changed {
            Ok(()) => numbers::OK,
            Err(Refusal::Unsupported) => numbers::UNSUPPORTED,
            Err(Refusal::Refused(reason)) => {
                self.refuse(reason);
                numbers::REFUSED
            }
        }
    }

    fn value(&self, entry: &Entry) -> Found {
        match &entry.value {
            Some(value) => self.hand_out(value),
            None => Found::nothing(numbers::VALUELESS),
        }
    }
}

extern "C" fn number(call: CallPointer, what: u32) -> u64 {
    with(call, |call| call.state.borrow().number(what))
}

extern "C" fn set_number(call: CallPointer, what: u32, value: u64) -> u32 {
    with(call, |call| {
        call.code(call.state.borrow_mut().set_number(what, value))
    })
}

extern "C" fn text(call: CallPointer, what: u32) -> Found {
    with(call, |call| match call.state.borrow().texts.get(&what) {
        Some(text) => call.hand_out(text),
        None => Found::nothing(numbers::ABSENT),
    })
}

extern "C" fn set_text(call: CallPointer, what: u32, value: Bytes) -> u32 {
    with(call, |call| {
        call.code(call.state.borrow_mut().set_text(what, taken(value)))
    })
}

extern "C" fn clear_text(call: CallPointer, what: u32) -> u32 {
    with(call, |call| {
        call.code(call.state.borrow_mut().clear_text(what))
    })
}

extern "C" fn get(call: CallPointer, map: u32, name: Bytes, nth: usize) -> Found {
    with(call, |call| {
        match call.state.borrow().values(map, &taken(name)).nth(nth) {
            Some(entry) => call.value(entry),
            None => Found::nothing(numbers::ABSENT),
        }
    })
}

extern "C" fn entry(call: CallPointer, map: u32, index: usize) -> FoundEntry {
    with(call, |call| {
        match call.state.borrow().entries(map).get(index) {
            Some(entry) => FoundEntry {
                name: call.hand_out(&entry.name),
                value: call.value(entry),
            },
            None => FoundEntry {
                name: Found::nothing(numbers::ABSENT),
                value: Found::nothing(numbers::ABSENT),
            },
        }
    })
}

extern "C" fn edit(call: CallPointer, map: u32, edit: u32, name: Bytes, value: Bytes) -> u32 {
    let change = Entry {
        name: taken(name),
        value: (map != map::GROUPS).then(|| taken(value)),
    };
    with(call, |call| {
        call.code(call.state.borrow_mut().edit(map, edit, change))
    })
}

extern "C" fn ask(call: CallPointer, what: u32, name: Bytes) -> Found {
    with(call, |call| {
        match call.state.borrow_mut().ask(what, &taken(name)) {
            Ok(Some(answer)) => call.hand_out(&answer),
            Ok(None) => Found::nothing(numbers::ABSENT),
            Err(reason) => {
                call.refuse(reason);
                Found::nothing(numbers::FAILED)
            }
        }
    })
}

extern "C" fn error_text(call: CallPointer) -> Found {
    with(call, |call| call.hand_out(&call.reason.borrow()))
}
