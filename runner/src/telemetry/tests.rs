//! The log as a whole: events in, lines out, and what it does when nobody reads them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tracing::{debug, error, info, info_span, warn};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// The level is the process's: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

struct Log {
    telemetry: Telemetry,
    subscriber: tracing::subscriber::DefaultGuard,
    _turn: MutexGuard<'static, ()>,
}

fn log_to(sink: Sink, style: Style) -> Log {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (telemetry, layer) = Telemetry::new(style, sink).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    let subscriber = tracing::subscriber::set_default(subscriber);
    set_level(Level::Info);
    Log {
        telemetry,
        subscriber,
        _turn: turn,
    }
}

/// What `events` logs in that style, without the time of text lines.
fn logged(style: Style, events: impl FnOnce()) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log");
    let log = log_to(Sink::File(file.clone()), style);
    events();
    assert!(log.telemetry.flush(PATIENCE));
    let text = std::fs::read_to_string(file).unwrap();
    let cut = if style == Style::Text { 25 } else { 0 };
    text.lines().map(|line| line[cut..].to_owned()).collect()
}

fn plugin_warning(fields: &str) {
    plugin_event(PluginEvent {
        level: Level::Warn,
        plugin: "stop",
        target: "stop::limits",
        message: "over the limit",
        fields,
        file: "src/limits.rs",
        line: 7,
    });
}

#[test]
fn an_event_is_one_line_with_the_fields_of_its_spans() {
    let lines = logged(Style::Text, || {
        let call = info_span!("call", plugin = "stop", phase = "access", request = 7);
        let _call = call.enter();
        info!(path = "/a b", "two\nlines \x1b[31m");
        warn!(phase = "rewrite", "the event knows better");
    });
    let target = "telemetry::tests";
    assert_eq!(
        lines,
        [
            format!(
                r#" INFO stop {target}: two\nlines \u{{1b}}[31m phase=access request=7 path="/a b""#
            ),
            format!(" WARN stop {target}: the event knows better phase=rewrite request=7"),
        ]
    );
}

#[test]
fn a_text_line_begins_with_the_time_in_utc_and_milliseconds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log");
    let log = log_to(Sink::File(file.clone()), Style::Text);
    info!("x");
    assert!(log.telemetry.flush(PATIENCE));
    let line = std::fs::read_to_string(file).unwrap();
    let shape: String = line[..25]
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z ");
}

#[test]
fn json_lines_hold_the_same_as_text_lines() {
    let lines = logged(Style::Json, || {
        let _call = info_span!("call", plugin = "stop", request = 7).entered();
        error!(cause = "a\"b", level = 1, ok = true, "bad");
    });
    let mut line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert!(lines[0].starts_with(r#"{"time":"2"#), "{}", lines[0]);
    assert!(line.as_object_mut().unwrap().remove("time").is_some());
    let wanted = json!({
        "level": "error", "target": "telemetry::tests", "message": "bad",
        "plugin": "stop", "request": 7, "cause": "a\"b", "level_": 1, "ok": true,
    });
    assert_eq!(line, wanted);
}

#[test]
fn a_plugins_event_appears_under_its_name_inside_the_span_of_the_call() {
    let fields = r#"{"limit":5,"level":"x"}"#;
    let lines = logged(Style::Text, || {
        let _call = info_span!("call", plugin = "stop", request = 7).entered();
        plugin_warning(fields);
        plugin_warning("not json");
    });
    assert_eq!(
        lines,
        [
            " WARN stop stop::limits: over the limit request=7 at=src/limits.rs:7 level=x limit=5",
            " WARN stop stop::limits: over the limit request=7 at=src/limits.rs:7 fields=\"not json\"",
        ]
    );
    let lines = logged(Style::Json, || plugin_warning(fields));
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["fields"], json!({"limit": 5, "level": "x"}));
    assert_eq!(line["level"], "warn");
    assert_eq!(line["plugin"], "stop");
}

#[test]
fn a_change_of_the_level_applies_at_once() {
    let lines = logged(Style::Text, || {
        for level in [Level::Info, Level::Debug, Level::Error] {
            set_level(level);
            assert_eq!(super::level(), level);
            let _call = info_span!("call", request = 7).entered();
            debug!("debug at {level:?}");
            plugin_warning("");
            error!("error at {level:?}");
        }
    });
    let target = "telemetry::tests";
    let warning = " WARN stop stop::limits: over the limit request=7 at=src/limits.rs:7".to_owned();
    assert_eq!(
        lines,
        [
            warning.clone(),
            format!("ERROR {target}: error at Info request=7"),
            format!("DEBUG {target}: debug at Debug request=7"),
            warning,
            format!("ERROR {target}: error at Debug request=7"),
            format!("ERROR {target}: error at Error request=7"),
        ]
    );
}

#[test]
fn an_error_is_logged_with_its_causes() {
    let lines = logged(Style::Text, || {
        let source = std::io::Error::other("disk on fire");
        let path = "/x".into();
        let error = TelemetryError::Open { path, source };
        error!(cause = &error as &dyn std::error::Error, "failed");
    });
    assert_eq!(
        lines,
        ["ERROR telemetry::tests: failed cause=\"cannot open the log file /x: disk on fire\""]
    );
}

#[test]
fn a_huge_value_is_cut() {
    let lines = logged(Style::Text, || info!("{}", "é".repeat(1 << 20)));
    assert!(lines[0].len() < 17 << 10);
    assert!(lines[0].ends_with("é… (cut)"));
}

#[test]
fn a_rotated_file_is_opened_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = log_to(Sink::File(path.clone()), Style::Text);
    info!("before");
    assert!(log.telemetry.flush(PATIENCE));
    std::fs::rename(&path, dir.path().join("log.1")).unwrap();
    info!("while it is away");
    assert!(log.telemetry.flush(PATIENCE));
    log.telemetry.reopen();
    info!("after");
    assert!(log.telemetry.flush(PATIENCE));
    let read = |file: &Path| std::fs::read_to_string(file).unwrap();
    assert_eq!(read(&dir.path().join("log.1")).lines().count(), 2);
    assert!(read(&path).ends_with("after\n"));

    let (dir, rotated) = (dir.path().to_owned(), dir.path().join("log"));
    std::fs::remove_file(&rotated).unwrap();
    std::fs::create_dir(&rotated).unwrap();
    log.telemetry.reopen();
    info!("the old file goes on");
    assert!(log.telemetry.flush(PATIENCE), "{dir:?}");
}

#[test]
fn finished_lines_are_passed_on_as_they_are() {
    let lines = logged(Style::Json, || {});
    assert!(lines.is_empty());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = log_to(Sink::File(path.clone()), Style::Json);
    let handle = log.telemetry.lines();
    handle.write_line(b"one\n");
    handle.write_line(b"two");
    assert!(log.telemetry.flush(PATIENCE));
    assert_eq!(std::fs::read(path).unwrap(), b"one\ntwo\n");
}

#[test]
fn a_reader_who_does_not_read_blocks_nobody_and_learns_what_was_dropped() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer = File::from(std::os::fd::OwnedFd::from(writer));
    let log = log_to(Sink::Open(writer), Style::Text);
    let start = Instant::now();
    let text = "x".repeat(1_000);
    for _ in 0..5_000 {
        info!("{text}");
    }
    assert!(!log.telemetry.flush(Duration::from_millis(20)));
    assert!(start.elapsed() < PATIENCE);

    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            sender.send(buffer[..count].to_vec()).unwrap();
        }
    });
    let mut bytes = Vec::new();
    let dropped = loop {
        bytes.extend(receiver.recv_timeout(PATIENCE).unwrap());
        let text = String::from_utf8_lossy(&bytes);
        if let Some(line) = text
            .lines()
            .find(|line| line.contains(" log lines dropped"))
            && line.ends_with("dropped")
        {
            let number = line.split(' ').rev().nth(3).unwrap();
            break number.parse::<usize>().unwrap();
        }
    };
    assert!(log.telemetry.flush(PATIENCE));
    // Everything is in the pipe by now; how much of it comes at once is the pipe's business.
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    while lines(&bytes) - 1 + dropped < 5_000 {
        bytes.extend(receiver.recv_timeout(PATIENCE).unwrap());
    }
    assert_eq!(lines(&bytes) - 1 + dropped, 5_000);
    drop(log.subscriber);
}

#[test]
fn a_sink_that_fails_ends_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut writer = File::from(std::os::fd::OwnedFd::from(writer));
    drop(reader);
    assert!(writer.write_all(b"x").is_err());
    let log = log_to(Sink::Open(writer), Style::Text);
    for _ in 0..3 {
        info!("nobody reads this");
        assert!(log.telemetry.flush(PATIENCE));
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_is_told_at_the_start() {
    let sink = Sink::File("/nonexistent/folder/log".into());
    let error = Telemetry::new(Style::Text, sink).err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot open the log file /nonexistent/folder/log"
    );
}
