//! Proves that a plain call allocates nothing: a real library behind a real socket, with an allocator that counts what
//! the event loop's thread asks for. In a process of its own, because an allocator counts for all of it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, and says where"
)]
#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use e2e::artifacts;
use e2e::gateway::{Gateway, frame};
use e2e::message::{HTTP_REQ_CALL, Reply, Request};
use plugin_runner::config::Config;
use plugin_runner::request::assign::AssignToken;
use plugin_runner::supervise::worker::inside;
use plugin_runner::supervise::workshop::{Library, Served, Sha256};

/// Calls that are counted at once, and attempts: on a busy machine a loop may be replaced meanwhile.
const CALLS: usize = 500;
const ATTEMPTS: usize = 20;

/// The thread whose allocations count; 0 for none.
static THREAD: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: passes everything on to the system's allocator. The default `realloc` and `alloc_zeroed` come here, too.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let counted = THREAD.load(Ordering::Relaxed);
        if counted != 0 && rustix::thread::gettid().as_raw_pid() == counted {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: by contract of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by contract of this function; the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

struct Tokens;

impl AssignToken for Tokens {
    fn assign(&self, payload: &[u8]) -> Result<u32, String> {
        Ok(payload.len() as u32)
    }

    fn forget(&self, _: u32) {}
}

/// The thread of the event loop that serves now: the one with the highest number is the spare one.
fn loop_thread() -> i32 {
    let mut loops: Vec<(u64, i32)> = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if let Some(number) = name.trim().strip_prefix("loop-") {
            let thread = task.file_name().to_str().unwrap().parse().unwrap();
            loops.push((number.parse().unwrap(), thread));
        }
    }
    loops.sort_unstable();
    loops.first().unwrap().1
}

/// Counts what the loop's thread allocates during `work`; `None` when another loop has taken its place.
fn allocations(work: impl FnOnce()) -> Option<usize> {
    let thread = loop_thread();
    ALLOCATIONS.store(0, Ordering::SeqCst);
    THREAD.store(thread, Ordering::SeqCst);
    work();
    THREAD.store(0, Ordering::SeqCst);
    (loop_thread() == thread).then(|| ALLOCATIONS.load(Ordering::SeqCst))
}

fn serve(folder: &Path) -> std::path::PathBuf {
    let library = artifacts::library("bench-headers");
    let copy = folder.join("copy.so");
    fs::copy(&library, &copy).unwrap();
    let workshop = inside(Config::default(), Arc::new(Tokens)).unwrap();
    let library = Library {
        generation: 1,
        file: library,
        path: copy,
        sha256: Sha256([0; 32]),
    };
    workshop.load(&library).unwrap();
    let socket = folder.join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    workshop
        .serve(listener.into(), &Served::new(), Duration::ZERO, None)
        .unwrap();
    // It serves until the process ends.
    std::mem::forget(workshop);
    socket
}

#[test]
fn a_plain_call_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = serve(folder.path());
    let token = Gateway::connect(&socket).prepare(&[("bench-headers", "{}")]);
    let request = Request::get("/")
        .header("user-agent", "a")
        .header("x-request-id", "b");
    let call = frame(HTTP_REQ_CALL, &request.payload(token));
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut reply = [0; 4096];
    let mut calls = |count: usize| {
        let mut read = 0;
        for _ in 0..count {
            stream.write_all(&call).unwrap();
            read = stream.read(&mut reply).unwrap();
        }
        read
    };
    // The plugin's trial on threads, and the first use of every buffer.
    let length = calls(CALLS);
    let counted = (0..ATTEMPTS).find_map(|_| {
        allocations(|| {
            calls(CALLS);
        })
    });
    assert_eq!(counted, Some(0), "allocations of {CALLS} calls");
    let rewrite = Reply::read(reply[0], &reply[4..length]).rewrite();
    assert_eq!(rewrite.headers.len(), 1);
    // The count is not always zero.
    let prepared = || {
        Gateway::connect(&socket).prepare(&[("bench-headers", "")]);
    };
    let counted = (0..ATTEMPTS).find_map(|_| allocations(prepared));
    assert!(counted.is_some_and(|counted| counted > 0));
}
