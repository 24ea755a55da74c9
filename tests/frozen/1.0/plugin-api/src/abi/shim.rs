//! The entry points of a plugin, for any author's type: pointers become borrows, panics become errors.
//!
//! No panic leaves an entry point: one that reached the runner would end the process.

#![expect(
    unsafe_code,
    reason = "turns handles back into the values that they were made from"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RString, RVec};
use serde_json::Value;

use super::caller::Caller;
use super::host::HostRef;
use super::module::{Module, ModuleRef, Outcome};
use super::numbers::{decision, edit, map, number, phase, text};
use super::values::{Bytes, CallPointer, Handle};
use crate::call::Call;
use crate::events;
use crate::next::{Answer, Next};
use crate::{
    ConfContext, Configuration, Error, InitContext, Plugin, Request, Response, Result, State,
};

/// What a library exports under `metadata::HEADER_SYMBOL`.
pub const fn header<P: Plugin>() -> LibHeader {
    // SAFETY: `root` returns what was a `ModuleRef` before its type was erased.
    unsafe { LibHeader::from_constructor::<ModuleRef>(root::<P>, CheckTypeLayout::Yes) }
}

extern "C" fn root<P: Plugin>() -> RootModuleResult {
    __call_root_module_loader(module::<P>)
}

/// The `init_worker` of a plugin that has none. Its name is part of the compiler's message to an author whose type has
/// no `Default` either.
pub fn without_init_worker_a_plugin_needs_default<P: Default>() -> P {
    P::default()
}

/// The functions of `P`, in the layout of the contract. Leaks it: once per loaded library.
pub fn module<P: Plugin>() -> ModuleRef {
    let module = Module {
        describe: describe::<P>,
        init: init::<P>,
        drop_instance: drop_value::<P>,
        configure: configure::<P>,
        drop_prepared: drop_value::<P::Prepared>,
        run: run::<P>,
        level: events::set_level_at_border,
        export_state: export_state::<P>,
        import_state: import_state::<P>,
        #[cfg(feature = "next-minor")]
        next_minor,
    };
    module.leak_into_prefix()
}

#[cfg(feature = "next-minor")]
extern "C" fn next_minor() -> u32 {
    1
}

/// Runs author code; a panic becomes the error `panicked: …`.
fn guard<T>(code: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| {
        let text = events::panic_text(&*payload).to_owned();
        // Dropping a payload may panic too; what that one carries is given up.
        std::mem::forget(catch_unwind(AssertUnwindSafe(|| drop(payload))));
        Err(Error::panicked(&text))
    })
}

fn outcome(made: Result<Outcome>) -> Outcome {
    made.unwrap_or_else(|error| Outcome::refused(error.to_string()))
}

fn boxed<T>(value: T) -> Outcome {
    let pointer = Box::into_raw(Box::new(value)).cast();
    Outcome::made(Handle { pointer })
}

/// # Safety
/// `handle` was made by `boxed` from a `T` and has not been dropped.
unsafe fn borrow<'a, T>(handle: Handle) -> &'a T {
    // SAFETY: by contract of this function; values behind handles are never borrowed mutably.
    unsafe { &*handle.pointer.cast::<T>() }
}

/// # Safety
/// As [`Bytes::as_slice`], for the length of the entry point.
unsafe fn slice<'a>(bytes: Bytes) -> &'a [u8] {
    // SAFETY: by contract of this function.
    unsafe { bytes.as_slice() }
}

extern "C" fn drop_value<T>(handle: Handle) {
    // SAFETY: the host gives back, once, what `boxed` made from a `T`, when nothing uses it any more.
    let value = unsafe { Box::from_raw(handle.pointer.cast::<T>()) };
    // A panic in the author's `Drop` has been reported by the hook; there is nobody to tell.
    let _ = guard(|| {
        drop(value);
        Ok(())
    });
}

extern "C" fn describe<P: Plugin>() -> RString {
    let described = guard(|| {
        let mut about: Value = serde_json::from_str(P::ABOUT)?;
        about["schema"] = P::Config::schema().unwrap_or_default();
        Ok(about.to_string())
    });
    described.unwrap_or_default().into()
}

extern "C" fn init<P: Plugin>(host: HostRef, context: Bytes) -> Outcome {
    // SAFETY: the host's bytes live until this function returns.
    let context = unsafe { slice(context) };
    outcome(guard(|| {
        let context = InitContext::read(context)?;
        events::install(host, context.generation(), context.level);
        P::init_worker(&context).map(boxed)
    }))
}

extern "C" fn configure<P: Plugin>(instance: Handle, conf: Bytes, context: Bytes) -> Outcome {
    // SAFETY: `instance` came from `init::<P>` and lives until `drop_instance`.
    let plugin = unsafe { borrow::<P>(instance) };
    // SAFETY: the host's bytes live until this function returns.
    let conf = unsafe { slice(conf) };
    // SAFETY: as above.
    let context = unsafe { slice(context) };
    outcome(guard(|| {
        let context = ConfContext::read(context)?;
        let config = P::Config::read(conf)?;
        P::validate(&config)?;
        plugin.configure(config, &context).map(boxed)
    }))
}

extern "C" fn run<P: Plugin>(
    instance: Handle,
    prepared: Handle,
    phase: u32,
    host: HostRef,
    call: CallPointer,
) -> u32 {
    // SAFETY: `instance` came from `init::<P>` and lives until `drop_instance`.
    let plugin = unsafe { borrow::<P>(instance) };
    // SAFETY: `prepared` came from `configure::<P>` and lives until `drop_prepared`.
    let prepared = unsafe { borrow::<P::Prepared>(prepared) };
    // SAFETY: the host keeps the call alive while the phase runs, on this thread.
    let caller = unsafe { Caller::new(host, call) };
    match guard(|| enter(plugin, prepared, phase, Call { caller })) {
        Ok(decision) => decision,
        Err(error) => {
            // SAFETY: as above; the first caller went into the phase.
            let caller = unsafe { Caller::new(host, call) };
            // A host that cannot take the text still sees the decision.
            let _ = caller.set_text(text::ERROR, error.to_string().as_bytes());
            if error.is_panic() {
                decision::PANIC
            } else {
                decision::ERROR
            }
        }
    }
}

fn enter<P: Plugin>(plugin: &P, prepared: &P::Prepared, phase: u32, call: Call<'_>) -> Result<u32> {
    match phase {
        phase::REWRITE => on_request(call, |request| plugin.rewrite(prepared, request)),
        phase::ACCESS => on_request(call, |request| plugin.access(prepared, request)),
        phase::HEADER_FILTER => {
            on_response(call, |response| plugin.header_filter(prepared, response))
        }
        phase::BODY_FILTER => on_response(call, |response| plugin.body_filter(prepared, response)),
        phase::LOG => {
            plugin.log(prepared, &call);
            Ok(decision::CONTINUE)
        }
        phase::CERTIFICATE => {
            plugin.certificate(prepared, &call)?;
            Ok(decision::CONTINUE)
        }
        unknown => Err(Error::new(format_args!(
            "plugin-api {} has no phase {unknown}",
            env!("CARGO_PKG_VERSION")
        ))),
    }
}

fn on_request(call: Call<'_>, phase: impl FnOnce(&mut Request<'_>) -> Result<Next>) -> Result<u32> {
    let mut request = Request(call);
    let next = phase(&mut request)?;
    decide(&request.0.caller, next)
}

fn on_response(
    call: Call<'_>,
    phase: impl FnOnce(&mut Response<'_>) -> Result<Next>,
) -> Result<u32> {
    let mut response = Response(call);
    let next = phase(&mut response)?;
    decide(&response.0.caller, next)
}

fn decide(caller: &Caller<'_>, next: Next) -> Result<u32> {
    let Some(Answer {
        status,
        headers,
        body,
    }) = next.0
    else {
        return Ok(decision::CONTINUE);
    };
    caller.set_number(number::ANSWER_STATUS, status.into())?;
    for (name, value) in &headers {
        caller.edit(map::ANSWER_HEADERS, edit::ADD, name, value)?;
    }
    caller.set_text(text::ANSWER_BODY, &body)?;
    Ok(decision::RESPOND)
}

extern "C" fn export_state<P: Plugin>(instance: Handle, prepared: Handle) -> Outcome {
    // SAFETY: both came from `P`'s entry points and have not been dropped.
    let (plugin, prepared) = unsafe { both::<P>(instance, prepared) };
    outcome(guard(|| {
        let state = plugin.export_state(prepared);
        let mut outcome = Outcome::made(Handle::NONE);
        if let Some(state) = state {
            outcome.version = state.version;
            outcome.state = RVec::from(state.data);
        }
        Ok(outcome)
    }))
}

extern "C" fn import_state<P: Plugin>(
    instance: Handle,
    prepared: Handle,
    version: u32,
    state: Bytes,
) -> Outcome {
    // SAFETY: both came from `P`'s entry points and have not been dropped.
    let (plugin, prepared) = unsafe { both::<P>(instance, prepared) };
    // SAFETY: the host's bytes live until this function returns.
    let data = unsafe { slice(state) }.to_vec();
    outcome(guard(|| {
        plugin.import_state(prepared, State::new(version, data))?;
        Ok(Outcome::made(Handle::NONE))
    }))
}

/// # Safety
/// As [`borrow`], for both.
unsafe fn both<'a, P: Plugin>(instance: Handle, prepared: Handle) -> (&'a P, &'a P::Prepared) {
    // SAFETY: by contract of this function.
    let plugin = unsafe { borrow::<P>(instance) };
    // SAFETY: as above.
    let prepared = unsafe { borrow::<P::Prepared>(prepared) };
    (plugin, prepared)
}
