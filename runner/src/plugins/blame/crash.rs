//! Notes whose code crashed, on the crashing thread, before the process ends as it would have.

#![expect(unsafe_code, reason = "a signal handler")]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::null;
use std::sync::OnceLock;

use super::{CURRENT, page, words};

/// What code that goes wrong is sent.
const SIGNALS: [c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// What was done before us: std says on which thread a stack has overflowed.
static BEFORE: OnceLock<Vec<libc::sigaction>> = OnceLock::new();

/// Installs the handler. Once, before plugin code runs.
///
/// # Errors
/// The system refuses.
pub fn install() -> io::Result<()> {
    let mut before = Vec::new();
    for signal in SIGNALS {
        before.push(action(signal, None)?);
    }
    if BEFORE.set(before).is_err() {
        return Ok(());
    }
    for signal in SIGNALS {
        let mut ours = action(signal, None)?;
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = crashed;
        ours.sa_sigaction = handler as usize;
        // On a stack of its own: the thread's may be used up.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        action(signal, Some(&ours))?;
    }
    Ok(())
}

/// Notes whose code calls `exit`. Our own way out does not pass here.
///
/// # Errors
/// No memory for it.
pub fn remember_exit() -> io::Result<()> {
    // SAFETY: `exited` is a function of ours that lives as long as the process, and does not unwind.
    match unsafe { libc::atexit(exited) } {
        0 => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::OutOfMemory)),
    }
}

/// Sets what a signal does, if it is given; what it did before.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    let new = new.map_or(null(), std::ptr::from_ref);
    // SAFETY: both pointers are null or to a sigaction that lives during the call.
    match unsafe { libc::sigaction(signal, new, old.as_mut_ptr()) } {
        // SAFETY: zeros are a valid sigaction, and the kernel has filled it in.
        0 => Ok(unsafe { old.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn exited() {
    note(None, 0);
}

fn note(signal: Option<u32>, address: u64) {
    if let Some(page) = page::known() {
        words::record(page, CURRENT.get(), signal, address);
    }
}

/// Async-signal-safe: atomics, a thread-local without a destructor, system calls.
extern "C" fn crashed(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    note(Some(signal as u32), address(context));
    let known = SIGNALS.iter().position(|known| *known == signal);
    let before = known.and_then(|at| BEFORE.get()?.get(at));
    let handler = before.map_or(libc::SIG_DFL, |before| before.sa_sigaction);
    if handler != libc::SIG_DFL && handler != libc::SIG_IGN {
        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: the kernel would have called it with the same arguments. One that takes only the first ignores the rest,
        // by the calling conventions of C.
        let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
        handler(signal, info, context);
    }
    // SAFETY: an integer and a constant.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: an integer. It ends the process as soon as this handler returns.
    unsafe { libc::raise(signal) };
}

/// Where the thread's code was.
fn address(context: *mut c_void) -> u64 {
    if context.is_null() {
        return 0;
    }
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the kernel gives a handler with SA_SIGINFO a pointer to the thread's context.
        let registers = unsafe { (*context).uc_mcontext.gregs };
        registers[libc::REG_RIP as usize] as u64
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: as above.
        unsafe { (*context).uc_mcontext.pc }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = context;
        0
    }
}
