//! The configuration as a whole: what a file, an environment and arguments come to.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::*;

/// A place with its own folders and environment.
struct Place {
    dir: tempfile::TempDir,
    env: HashMap<String, OsString>,
    arguments: [Option<PathBuf>; 2],
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            env: HashMap::new(),
            arguments: [None, Some("plugins".into())],
        }
    }

    fn with(file: &str, text: &str) -> Self {
        let mut place = Self::new();
        place.arguments[0] = Some(file.into());
        place.write(&format!("cwd/{file}"), text);
        place
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.path(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn load(&self) -> Result<Config, Faults> {
        let [config, plugins] = self.arguments.clone();
        let env = self.env.clone();
        load(&Sources {
            config,
            plugins,
            needs_plugins: true,
            exe: self.path("opt/bin/plugin-runner"),
            cwd: self.path("cwd"),
            system: self.path("etc"),
            root: false,
            env: Box::new(move |name| env.get(name).cloned()),
        })
    }

    /// The faults, with the temporary folder cut off.
    fn faults(&self) -> String {
        let faults = self.load().unwrap_err().to_string();
        faults.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[test]
fn all_faults_are_told_at_once_with_their_places() {
    let place = Place::with(
        "c.yaml",
        r#"sokcet: {}
socket:
  fiel: /run/a.sock
  mode: 0999
  peers: nobody
logging:
  level: verbose
  format: [json]
  level: info
plugins:
  dir: 5
  hot_reload: maybe
  allow: [12ab]
  enabled: [stop, [say], ""]
  on_failure: {stop: ignore, say: skip}
  settings:
    stop: {key: $env.NO_SUCH_KEY, a: 1, a: 2}
  files:
    stop: ../stop.so
calls:
  deadline: 10 parsecs
worker:
  memory_limit: 1MiB
  threads: 8
  threads_per_plugin: 16
tokens: none
42: {}
"#,
    )
    .env("APISIX_CONF_EXPIRE_TIME", "soon");
    let wanted = "\
environment variable `APISIX_CONF_EXPIRE_TIME` is `soon`; it must be a number of seconds, 1 or more
cwd/c.yaml:1:1: unknown key `sokcet`; did you mean `socket`?
cwd/c.yaml:3:3: unknown key `fiel` in `socket`; did you mean `file`?
cwd/c.yaml:4:9: `socket.mode` is `0999`; write octal permission bits such as 0766
cwd/c.yaml:5:10: `socket.peers` must be a list, not text
cwd/c.yaml:7:10: `logging.level` is `verbose`; it must be error, warn, info, debug or trace
cwd/c.yaml:8:11: `logging.format` must be auto, text or json, not a list
cwd/c.yaml:9:3: `level` is given twice, first in line 7
cwd/c.yaml:11:8: `plugins.dir` must be text, not a number: put it in quotes
cwd/c.yaml:12:15: `plugins.hot_reload` is `maybe`; it must be true or false
cwd/c.yaml:13:11: `plugins.allow[0]` is `12ab`; it must be the sha256 sum of a library, 64 hex digits
cwd/c.yaml:14:19: `plugins.enabled[1]` must be text, not a list
cwd/c.yaml:14:26: `plugins.enabled[2]` is empty: give it a value or leave it out
cwd/c.yaml:15:22: `plugins.on_failure.stop` is `ignore`; it must be error or skip
cwd/c.yaml:17:17: environment variable `NO_SUCH_KEY` is not set
cwd/c.yaml:17:41: `a` is given twice, first in line 17
cwd/c.yaml:19:11: `plugins.files.stop` is `../stop.so`; it must be a file name in the plugins folder, without `/`
cwd/c.yaml:21:13: `calls.deadline` is `10 parsecs`; write a duration such as `10s`, `500ms`, `2m`, `1h`
cwd/c.yaml:23:17: `worker.memory_limit` is `1MiB`; it must be 64MiB or more
cwd/c.yaml:25:23: `worker.threads_per_plugin` is 16, which is more than `worker.threads` (8)
cwd/c.yaml:26:9: `tokens` must be a mapping of keys to values, not text
cwd/c.yaml:27:1: unknown key `42`; the keys here are socket, logging, plugins, bindings, calls, worker, state, tokens";
    assert_eq!(place.faults(), wanted);
}

#[test]
fn every_key_can_be_set() {
    let place = Place::with(
        "conf/c.yaml",
        r#"
socket: {file: "unix:run/a.sock", mode: "0o600", owner: 1000, group: www, peers: [gateway, 33]}
logging: {level: WARN, format: json, file: logs/runner.log}
plugins:
  dir: ../plugins
  files: {stop: stop-2.so}
  enabled: [stop]
  disabled: [say]
  allow: [AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA]
  settings: {stop: {secret: $env.SECRET, port: 18446744073709551615, ratio: 0.5, list: [1, true, ~, "2"]}}
  on_failure: {stop: skip}
  hot_reload: false
  allow_writable: true
  load_deadline: 2m
  probe_deadline: 3s
  quarantine_crashes: 5
  quarantine_window: 90s
bindings: {file: b.yaml}
calls: {deadline: 500ms, stop_deadline: 25s}
worker: {user: root, memory_limit: 512MiB, event_loops: $env.LOOPS, threads: 8, recycle_generations: 9,
  recycle_memory: 256MiB, recycle_stuck_threads: 3, recycle_interval: 1s}
state: {dir: /srv/state}
tokens: {max: 1_000, expire: 60}
"#,
    )
    .env("SECRET", "s3cret")
    .env("LOOPS", "4");
    let mut place = place;
    place.arguments[1] = None;
    let base = place.path("cwd/conf");
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let want = Config {
        file: Some(base.join("c.yaml")),
        socket: Socket {
            file: base.join("run/a.sock"),
            mode: 0o600,
            owner: Some("1000".into()),
            group: Some("www".into()),
            peers: names(&["gateway", "33"]),
        },
        logging: Logging {
            level: Level::Warn,
            format: Format::Json,
            file: Some(base.join("logs/runner.log")),
        },
        plugins: Plugins {
            dir: Some(base.join("../plugins")),
            files: [("stop".into(), "stop-2.so".into())].into(),
            enabled: Some(names(&["stop"])),
            disabled: names(&["say"]),
            allow: Some(vec!["a".repeat(64)]),
            settings: [(
                "stop".into(),
                serde_json::json!({"secret": "s3cret", "port": u64::MAX, "ratio": 0.5, "list": [1, true, null, "2"]}),
            )]
            .into(),
            on_failure: [("stop".into(), OnFailure::Skip)].into(),
            hot_reload: false,
            allow_writable: true,
            load_deadline: Duration::from_secs(120),
            probe_deadline: Duration::from_secs(3),
            quarantine_crashes: 5,
            quarantine_window: Duration::from_secs(90),
        },
        bindings: Bindings {
            file: Some(base.join("b.yaml")),
        },
        calls: Calls {
            deadline: Duration::from_millis(500),
            stop_deadline: Duration::from_secs(25),
        },
        worker: Worker {
            user: Some("root".into()),
            memory_limit: Some(512 << 20),
            event_loops: 4,
            threads: 8,
            threads_per_plugin: 8,
            recycle_generations: 9,
            recycle_memory: Some(256 << 20),
            recycle_stuck_threads: 3,
            recycle_interval: Duration::from_secs(1),
        },
        state: State {
            dir: Some("/srv/state".into()),
        },
        steps: false,
        tokens: Tokens {
            max: 1_000,
            expire: Duration::from_secs(60),
        },
    };
    let config = place.load().unwrap();
    assert_eq!(config, want);
    let sent = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&sent).unwrap(), want);
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "socket: {file: /a.sock}\ntokens: {expire: 1s}\n";
    let place = Place::with("c.yaml", text)
        .env("APISIX_LISTEN_ADDRESS", "unix:/home/conf/apisix-7.sock")
        .env("APISIX_CONF_EXPIRE_TIME", "100");
    let config = place.load().unwrap();
    assert_eq!(config.socket.file, Path::new("/home/conf/apisix-7.sock"));
    assert_eq!(config.tokens.expire, Duration::from_secs(120));
}

#[test]
fn the_configuration_of_the_python_runner_is_understood() {
    let text =
        "socket:\n  file: $env.APISIX_LISTEN_ADDRESS # its socket\nlogging:\n  level: NOTSET\n";
    let place = Place::with("c.yaml", text);
    let config = place.load().unwrap();
    assert_eq!(config.socket.file, Path::new(DEFAULT_SOCKET));
    assert_eq!(config.logging.level, Level::Info);
    let config = place
        .env("APISIX_LISTEN_ADDRESS", "unix:/run/a.sock")
        .load()
        .unwrap();
    assert_eq!(config.socket.file, Path::new("/run/a.sock"));
}

#[test]
fn the_file_is_looked_for_beside_the_executable_and_then_in_etc() {
    let place = Place::new();
    for file in ["etc", "opt/conf", "opt/bin/conf"] {
        let file = format!("{file}/config.yaml");
        place.write(&file, "logging: {level: debug}");
        let config = place.load().unwrap();
        assert_eq!(config.file, Some(place.path(&file)));
        assert_eq!(config.logging.level, Level::Debug);
    }
}

#[test]
fn a_configuration_in_the_working_directory_is_the_gateways_and_never_read() {
    let place = Place::new();
    place.write("cwd/conf/config.yaml", "apisix: {node_listen: 9080}");
    place.write("cwd/config.yaml", "apisix: {node_listen: 9080}");
    let config = place.load().unwrap();
    assert_eq!(config.file, None);
    assert_eq!(config.plugins.dir, Some(place.path("cwd/plugins")));
}

#[test]
fn a_file_that_was_asked_for_must_exist_and_be_yaml() {
    let mut place = Place::new();
    place.arguments[0] = Some("none.yaml".into());
    let fault =
        "cwd/none.yaml: cannot read the configuration: No such file or directory (os error 2)";
    assert_eq!(place.faults(), fault);
    let place = Place::with("c.yaml", "socket: {file: a\nlogging: x\n");
    assert!(
        place.faults().starts_with("cwd/c.yaml:2:"),
        "{}",
        place.faults()
    );
}

#[test]
fn a_file_in_the_search_that_cannot_be_read_is_a_fault_and_not_skipped() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("opt/conf/config.yaml")).unwrap();
    place.write("etc/config.yaml", "logging: {level: debug}");
    let fault = "opt/conf/config.yaml: cannot read the configuration: Is a directory (os error 21)";
    assert_eq!(place.faults(), fault);
}

#[test]
fn a_missing_plugins_folder_is_told_with_the_ways_to_name_one() {
    let mut place = Place::new();
    place.arguments[1] = None;
    assert_eq!(
        place.faults(),
        "no plugins folder: give `--plugins DIR`, or set `plugins.dir` in a configuration file"
    );
}

#[test]
fn a_socket_path_that_the_system_cannot_take_is_a_fault() {
    let long = format!("unix:/{}", "a".repeat(107));
    let place = Place::new().env("APISIX_LISTEN_ADDRESS", &long);
    assert!(
        place
            .faults()
            .ends_with("the path of a Unix socket has 107 bytes at most, this one has 108")
    );
    let place = Place::new().env("APISIX_LISTEN_ADDRESS", "unix:");
    assert_eq!(
        place.faults(),
        "environment variable `APISIX_LISTEN_ADDRESS` is `unix:`; it must be the path of a Unix socket"
    );
}

#[test]
fn state_is_kept_where_the_user_keeps_it_or_nowhere() {
    let dir = |place: Place| place.load().unwrap().state.dir;
    assert_eq!(dir(Place::new()), None);
    let home = Place::new().env("HOME", "/home/ada");
    assert_eq!(
        dir(home),
        Some("/home/ada/.local/state/plugin-runner".into())
    );
    let xdg = Place::new().env("HOME", "/h").env("XDG_STATE_HOME", "/s");
    assert_eq!(dir(xdg), Some("/s/plugin-runner".into()));
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let shipped = include_str!("../../../conf/config.yaml");
    let place = Place::with("conf/config.yaml", shipped);
    let config = place.load().unwrap();
    let mut defaults = Config {
        file: config.file.clone(),
        ..Config::default()
    };
    defaults.plugins.dir = Some(place.path("cwd/plugins"));
    assert_eq!(config, defaults);

    let root = yaml::parse(shipped).unwrap().unwrap();
    let yaml::Kind::Map(sections) = &root.kind else {
        panic!("not a mapping")
    };
    let shown = |pairs: &[(yaml::Node, yaml::Node)]| -> Vec<String> {
        let text = |(key, _): &(yaml::Node, yaml::Node)| match &key.kind {
            yaml::Kind::Scalar { text, .. } => text.clone(),
            _ => String::new(),
        };
        pairs.iter().map(text).collect()
    };
    let names: Vec<_> = keys::SECTIONS.iter().map(|section| section.name).collect();
    assert_eq!(shown(sections), names);
    for (section, (_, value)) in keys::SECTIONS.iter().zip(sections) {
        let yaml::Kind::Map(pairs) = &value.kind else {
            panic!("{} is no mapping", section.name)
        };
        let names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
        assert_eq!(shown(pairs), names, "in {}", section.name);
    }
}
