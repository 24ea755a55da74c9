//! What goes wrong, by the word for it in the conf.

#![expect(unsafe_code, reason = "there is no other way to do what is forbidden")]

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::ptr::null_mut;
use std::time::Duration;

use plugin_api::{Next, Result, bail, log, tracing};

use crate::plugin::{Config, mark};

/// What can happen in any phase.
pub(crate) fn trouble(config: &Config, phase: &str) -> Result<Next> {
    if config.phase != phase {
        return Ok(Next::CONTINUE);
    }
    match config.mode.as_str() {
        "mark" => {
            return Next::respond(200).body(mark()).into();
        }
        "error" => bail!("was told to fail"),
        "panic" => panic!("panicked as it was told to"),
        "sleep" | "sleep_ms" => {
            wait(config.ms);
            return Next::respond(200).body("awake").into();
        }
        "hang" => wait(u64::MAX),
        "status_150" => return Next::respond(150).into(),
        "large_reply" => return Next::respond(200).body(vec![b'x'; 6 << 20]).into(),
        "huge_reply" => return Next::respond(200).body(vec![b'x'; 1 << 24]).into(),
        "log" => say(),
        "print" => print(),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "segfault" => segfault(),
        "stack_overflow" => drop(overflow(0)),
        "allocate_all" => allocate_all(),
        "leak" => leak(),
        "sigbus" => read_beyond_the_end()?,
        "sigill" => illegal(),
        "thread_crash" => crash_elsewhere(),
        "thread_left_behind" => drop(std::thread::spawn(|| wait(u64::MAX))),
        "fork_child_that_keeps_stdout" => fork_and_stay(),
        "log_flood" => flood(),
        _ => {}
    }
    Ok(Next::CONTINUE)
}

/// Takes something that only one process can have, for as long as the process lives.
pub(crate) fn take(name: &str) -> Result<()> {
    let address = SocketAddr::from_abstract_name(name)?;
    std::mem::forget(UnixListener::bind_addr(&address)?);
    Ok(())
}

/// Never gives it back.
fn leak() {
    std::mem::forget(std::hint::black_box(vec![1u8; 1 << 26]));
}

fn say() {
    tracing::warn!(answer = 42, "said with tracing");
    log::error!("said with {}", "log");
    tracing::debug!("said too quietly");
}

fn flood() {
    for line in 0..100_000 {
        tracing::warn!(line, "said over and over");
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a plugin should not do"
)]
fn print() {
    println!("printed to standard output");
    eprintln!("printed to standard error");
}

/// Blocks its thread.
pub(crate) fn wait(ms: u64) {
    let start = std::time::Instant::now();
    while let Some(rest) = Duration::from_millis(ms).checked_sub(start.elapsed()) {
        std::thread::park_timeout(rest);
    }
}

/// Never comes back.
#[expect(unconditional_recursion, reason = "it is what it is for")]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + room[7]
}

fn allocate_all() {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1; 1 << 24]));
    }
}

/// Crashes on a thread of its own, and waits for that.
fn crash_elsewhere() {
    let _ = std::thread::spawn(segfault).join();
}

pub(crate) fn segfault() {
    let nowhere = std::ptr::without_provenance::<u8>(8);
    // SAFETY: none: nothing is mapped there, and the process is meant to end.
    unsafe { nowhere.read_volatile() };
}

/// Maps what lies behind the end of a file and reads it: SIGBUS.
fn read_beyond_the_end() -> Result<()> {
    const PAGE: usize = 1 << 16;
    let file = std::fs::File::open("/proc/self/exe")?;
    let end = usize::try_from(file.metadata()?.len())?.next_multiple_of(PAGE) + PAGE;
    // SAFETY: a new mapping, read only, which no other code knows.
    let page = unsafe {
        mmap(
            null_mut(),
            PAGE,
            READ,
            PRIVATE,
            file.as_raw_fd(),
            end as i64,
        )
    };
    // SAFETY: none: there is no page behind the end, and the process is meant to end.
    unsafe { page.cast::<u8>().read_volatile() };
    Ok(())
}

/// An instruction that no processor knows.
fn illegal() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none: the process is meant to end.
    unsafe {
        std::arch::asm!("ud2")
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: none: the process is meant to end.
    unsafe {
        std::arch::asm!("udf #0")
    };
}

/// A child that does nothing but hold what it has inherited.
fn fork_and_stay() {
    // SAFETY: the child calls nothing but `sleep`, which is allowed there.
    if unsafe { fork() } == 0 {
        loop {
            // SAFETY: takes an integer.
            unsafe { sleep(3600) };
        }
    }
}

const READ: i32 = 1;
const PRIVATE: i32 = 2;

// SAFETY: as the C library declares them, for 64 bits.
unsafe extern "C" {
    fn mmap(at: *mut c_void, len: usize, prot: i32, flags: i32, fd: i32, from: i64) -> *mut c_void;
    fn fork() -> i32;
    fn sleep(seconds: u32) -> u32;
}
