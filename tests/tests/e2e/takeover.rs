//! The socket's path has another runner, or nothing: connections go to whoever serves, and no call fails.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e::gateway::Gateway;
use e2e::log::Log;
use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup, signal_process};
use e2e::wait;
use rustix::process::Signal;

const HANDED_OVER: &[&str] = &["handed over ", " connections"];
const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

/// One more runner of the same configuration, as a gateway starts it when it reloads.
struct Another {
    child: Child,
    log: Log,
}

impl Another {
    fn start(setup: &Setup) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command: Command = setup.command();
        command.stdin(Stdio::null());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let log = Log::of(reader);
        Self { child, log }
    }

    /// Asks it to stop as the gateway does, which kills it a second later.
    #[track_caller]
    fn stop(mut self) -> Log {
        signal_process(self.child.id(), Signal::TERM);
        wait::until("it has stopped", || self.child.try_wait().unwrap());
        self.log.clone()
    }

    /// Asks it to stop, and kills it as soon as it says that its connections are handed over. The gateway would leave it
    /// the rest of a second.
    fn stop_harshly(mut self) {
        signal_process(self.child.id(), Signal::TERM);
        self.log.wait_for(HANDED_OVER);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Another {
    #[expect(clippy::print_stdout, reason = "a failed test shows it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("a runner said:\n{}", self.log.lines().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls that treat an unknown token as the gateway does, and new connections beside the old ones.
struct Load<'a> {
    setup: &'a Setup,
    stop: AtomicBool,
    calls: AtomicUsize,
    faults: Mutex<Vec<String>>,
    /// What runners said that have stopped meanwhile: shown by a failed test.
    logs: Mutex<Vec<Log>>,
}

impl<'a> Load<'a> {
    fn on(setup: &'a Setup) -> Self {
        Self {
            setup,
            stop: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            faults: Mutex::default(),
            logs: Mutex::default(),
        }
    }

    fn keep(&self, log: &Log) {
        self.logs.lock().unwrap().push(log.clone());
    }

    fn connect(&self) -> Gateway {
        Gateway::connect(&self.setup.socket())
    }

    /// Calls on one connection, until it is told to stop or has made `most`.
    fn calls_on(&self, mut gateway: Gateway, most: usize) {
        let (mut token, mut made) = (0, 0);
        while made < most && !self.stop.load(Ordering::SeqCst) {
            gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
            match gateway.try_receive() {
                Ok(Some(frame)) => match frame.reply() {
                    Reply::Error(Code::ConfTokenNotFound) => {
                        token = self.connect().prepare(&STOP);
                        continue;
                    }
                    reply if reply.clone().text() == "ok" => {}
                    other => return self.fault(format!("{other:?}")),
                },
                other => return self.fault(format!("{other:?}")),
            }
            made += 1;
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn fresh(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            self.calls_on(self.connect(), 2);
        }
    }

    fn fault(&self, fault: String) {
        self.faults.lock().unwrap().push(fault);
    }

    fn during(&self, meanwhile: impl FnOnce()) {
        std::thread::scope(|scope| {
            for _ in 0..16 {
                let gateway = self.connect();
                scope.spawn(move || self.calls_on(gateway, usize::MAX));
            }
            scope.spawn(|| self.fresh());
            struct Stop<'a>(&'a AtomicBool);
            impl Drop for Stop<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            let stop = Stop(&self.stop);
            self.some_calls();
            meanwhile();
            self.some_calls();
            drop(stop);
        });
        let faults = self.faults.lock().unwrap();
        let logs = self.logs.lock().unwrap();
        let said: Vec<_> = logs.iter().flat_map(Log::lines).collect();
        let said = said.join("\n");
        assert!(faults.is_empty(), "{faults:?}; runners said:\n{said}");
    }

    fn some_calls(&self) {
        let calls = self.calls.load(Ordering::SeqCst);
        wait::until("calls are made", || {
            let made = self.calls.load(Ordering::SeqCst);
            (made > calls + 100 || !self.faults.lock().unwrap().is_empty()).then_some(())
        });
    }
}

#[test]
fn when_the_gateway_reloads_the_old_runner_gives_its_connections_to_the_new_one() {
    // Whether no call fails is asked here, not how fast a machine is that runs other tests meanwhile.
    let setup = Setup::with(&["stop"]).config("calls:\n  stop_deadline: 20s\n");
    let mut old = Another::start(&setup);
    old.log.wait_for(&["ready: 1 plugin"]);
    let mut idle: Vec<_> = (0..32).map(|_| Gateway::connect(&setup.socket())).collect();
    let load = Load::on(&setup);
    load.during(|| {
        for number in 0..20 {
            let new = Another::start(&setup);
            match number {
                // The gateway waits for no runner: its libraries may still be on their way, also when the next one comes.
                5 | 10..=15 => drop(new.log.wait_for(&["listening on"])),
                _ => drop(new.log.wait_for(&["ready: 1 plugin"])),
            }
            let before = std::mem::replace(&mut old, new);
            load.keep(&before.log);
            match number % 2 {
                0 => before.stop_harshly(),
                _ => drop(before.stop().wait_for(HANDED_OVER)),
            }
        }
    });
    for gateway in &mut idle {
        assert_eq!(gateway.get(&STOP).text(), "ok");
    }
}

#[test]
fn a_call_in_flight_is_finished_before_its_connection_is_given_away() {
    let setup = Setup::with(&["stop", "misbehaving"]);
    let old = Another::start(&setup);
    old.log.wait_for(&["ready: 2 plugins"]);
    let mut gateway = Gateway::connect(&setup.socket());
    let token = gateway.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 200}"#)]);
    let new = Another::start(&setup);
    new.log.wait_for(&["ready: 2 plugins"]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    old.stop();
    assert_eq!(gateway.receive_reply().reply().text(), "awake");
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

#[test]
fn without_a_runner_at_its_path_the_old_one_drains() {
    let setup = Setup::with(&["stop"]);
    let old = Another::start(&setup);
    old.log.wait_for(&["ready: 1 plugin"]);
    let mut gateway = Gateway::connect(&setup.socket());
    assert_eq!(gateway.get(&STOP).text(), "ok");
    let other = setup.folder().join("other");
    let _listener = UnixListener::bind(&other).unwrap();
    fs::rename(&other, setup.socket()).unwrap();
    old.log
        .wait_for(&["is no more ours: process", "has taken it over"]);
    assert_eq!(gateway.get(&STOP).text(), "ok");
    old.stop();
    assert!(gateway.is_closed());
    assert!(setup.socket().exists(), "it is another's");
}

#[test]
fn a_socket_that_somebody_removed_is_there_again_and_no_call_fails() {
    let runner = Runner::with(&["stop"]);
    let mut idle = runner.gateway();
    assert_eq!(idle.get(&STOP).text(), "ok");
    fs::remove_file(runner.setup().socket()).unwrap();
    back_again(&runner, &mut idle);
    // One of a process that is gone is as good as none.
    let other = runner.setup().folder().join("other");
    drop(UnixListener::bind(&other).unwrap());
    fs::rename(&other, runner.setup().socket()).unwrap();
    back_again(&runner, &mut idle);
}

#[track_caller]
fn back_again(runner: &Runner, idle: &mut Gateway) {
    let socket = runner.setup().socket();
    wait::until("it can be reached", || UnixStream::connect(&socket).ok());
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    assert_eq!(idle.get(&STOP).text(), "ok");
}
