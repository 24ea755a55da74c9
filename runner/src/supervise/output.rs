//! What comes out of a worker: its finished log lines, passed on as they are, and what third-party code prints.
//! Never blocks the worker: the threads here only read.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io, thread};

use crate::telemetry::Lines;

/// Bytes of a log line; what follows is dropped.
const MAX_LOG_LINE: usize = 256 * 1024;
/// Bytes of a printed line; what follows is dropped.
const MAX_PRINTED_LINE: usize = 4096;

/// How many pipes are being read, for who waits until the last words of a process are out.
static READING: Mutex<usize> = Mutex::new(0);
static READ: Condvar = Condvar::new();

/// Waits until all pipes were read to their end, for a while at most: a process may have left a child behind that keeps
/// one open. For commands that end with their last child; not for a supervisor.
pub(super) fn wait_for_last_words(within: Duration) {
    let reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
    drop(READ.wait_timeout_while(reading, within, |reading| *reading > 0));
}

fn read_on(name: &str, read: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let reading = || READING.lock().unwrap_or_else(PoisonError::into_inner);
    *reading() += 1;
    let ended = move || {
        *reading() -= 1;
        READ.notify_all();
    };
    let job = move || {
        read();
        ended();
    };
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(job);
    spawned.map(drop).inspect_err(|_| ended())
}

/// Passes finished log lines on, until the worker and all its children have closed the pipe.
pub(super) fn pass_on_log(pipe: OwnedFd, lines: Lines) -> io::Result<()> {
    let read = move || {
        each_line(fs::File::from(pipe), MAX_LOG_LINE, |line, _| {
            lines.write_line(line)
        })
    };
    read_on("worker log", read)
}

/// Makes an event of every line that is printed to the worker's stdout or stderr.
pub(super) fn log_prints(pipe: OwnedFd) -> io::Result<()> {
    let read = move || each_line(fs::File::from(pipe), MAX_PRINTED_LINE, log_print);
    read_on("worker output", read)
}

fn log_print(line: &[u8], cut: usize) {
    let line = String::from_utf8_lossy(line);
    match cut {
        0 => tracing::info!("plugin output: {line}"),
        _ => tracing::info!(cut_bytes = cut, "plugin output: {line}"),
    }
}

/// Calls `with` for every line: its first `limit` bytes, and how many more it had.
fn each_line(input: impl Read, limit: usize, mut with: impl FnMut(&[u8], usize)) {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let (mut line, mut cut) = (Vec::new(), 0);
    loop {
        let chunk = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok([]) | Err(_) => break,
            Ok(chunk) => chunk,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = part.len().min(limit - line.len());
        line.extend_from_slice(&part[..room]);
        cut += part.len() - room;
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            with(&line, cut);
            line.clear();
            cut = 0;
        }
    }
    if !line.is_empty() {
        with(&line, cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_and_long_ones_are_cut_and_counted() {
        let input = [b"one\n\n".as_slice(), &[b'x'; 200_000], b"\nlast"].concat();
        let mut seen = Vec::new();
        each_line(input.as_slice(), 10, |line, cut| {
            seen.push((line.to_vec(), cut))
        });
        let wanted = [
            (b"one".to_vec(), 0),
            (b"".to_vec(), 0),
            (vec![b'x'; 10], 199_990),
            (b"last".to_vec(), 0),
        ];
        assert_eq!(seen, wanted);
    }
}
