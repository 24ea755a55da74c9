//! What a process takes under load, and how much load a run of the tests can afford.

use std::fs;

/// `small` in the ordinary run, `whole` where `E2E_LOAD=whole` is set: minutes, and gigabytes.
pub fn size(small: usize, whole: usize) -> usize {
    match std::env::var("E2E_LOAD").as_deref() {
        Ok("whole") => whole,
        _ => small,
    }
}

/// Resident megabytes of a process: now, and at its highest since [`forget_peak`].
pub fn memory(pid: u32) -> (usize, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        number.unwrap_or(0) / 1024
    };
    (number("VmRSS:"), number("VmHWM:"))
}

/// Lets the highest value of [`memory`] begin anew.
pub fn forget_peak(pid: u32) {
    // proc(5): 5 resets VmHWM.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Processor time of a process so far, in milliseconds.
pub fn cpu_ms(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc(5): behind the name in brackets, user time and system time are fields 12 and 13, in ticks of 10 ms.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() * 10
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Notes a figure, where the sizes are the whole ones: the ordinary run has nothing to tell.
pub fn figure(text: &str) {
    use std::io::Write;
    if size(0, 1) == 1 {
        // Past the test harness, which keeps what a test prints to itself.
        let _ = writeln!(std::io::stderr(), "figure: {text}");
    }
}
