//! Every key of the file: its section, its name, how its value is read. A key that is not in
//! this table does not exist.

use std::time::Duration;

use super::Config;
use super::field::{Context, Field};
use super::yaml::{Kind, Node};

/// A section's name and its keys.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
}

/// A key's name and what puts its value into the configuration.
pub(super) struct Key {
    pub(super) name: &'static str,
    set: fn(&mut Config, &Field<'_>),
}

const fn key(name: &'static str, set: fn(&mut Config, &Field<'_>)) -> Key {
    Key { name, set }
}

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// With less the worker does not come up.
const LEAST_MEMORY: u64 = 64 << 20;

pub(super) const SECTIONS: &[Section] = &[
    Section {
        name: "socket",
        keys: &[
            key("file", |c, f| put(&mut c.socket.file, socket_file(f))),
            key("mode", |c, f| put(&mut c.socket.mode, f.mode())),
            key("owner", |c, f| put(&mut c.socket.owner, some(f.id()))),
            key("group", |c, f| put(&mut c.socket.group, some(f.id()))),
            key("peers", |c, f| put(&mut c.socket.peers, f.list(Field::id))),
        ],
    },
    Section {
        name: "logging",
        keys: &[
            key("level", |c, f| put(&mut c.logging.level, f.named())),
            key("format", |c, f| put(&mut c.logging.format, f.named())),
            key("file", |c, f| put(&mut c.logging.file, some(f.path()))),
        ],
    },
    Section {
        name: "plugins",
        keys: &[
            key("dir", |c, f| put(&mut c.plugins.dir, some(f.path()))),
            key("files", |c, f| {
                put(&mut c.plugins.files, f.map(file_name));
            }),
            key("enabled", |c, f| {
                put(&mut c.plugins.enabled, some(f.list(Field::text)));
            }),
            key("disabled", |c, f| {
                put(&mut c.plugins.disabled, f.list(Field::text));
            }),
            key("allow", |c, f| {
                put(&mut c.plugins.allow, some(f.list(sha256)));
            }),
            key("settings", |c, f| {
                put(&mut c.plugins.settings, f.map(Field::json));
            }),
            key("on_failure", |c, f| {
                put(&mut c.plugins.on_failure, f.map(Field::named));
            }),
            key("hot_reload", |c, f| {
                put(&mut c.plugins.hot_reload, f.flag())
            }),
            key("allow_writable", |c, f| {
                put(&mut c.plugins.allow_writable, f.flag());
            }),
            key("load_deadline", |c, f| {
                put(&mut c.plugins.load_deadline, f.duration(HOUR));
            }),
            key("probe_deadline", |c, f| {
                put(&mut c.plugins.probe_deadline, f.duration(HOUR));
            }),
            key("quarantine_crashes", |c, f| {
                put(&mut c.plugins.quarantine_crashes, f.number(1, 1000));
            }),
            key("quarantine_window", |c, f| {
                put(&mut c.plugins.quarantine_window, f.duration(HOUR));
            }),
        ],
    },
    Section {
        name: "bindings",
        keys: &[key("file", |c, f| {
            put(&mut c.bindings.file, some(f.path()))
        })],
    },
    Section {
        name: "calls",
        keys: &[
            key("deadline", |c, f| {
                put(&mut c.calls.deadline, f.duration(HOUR));
            }),
            key("stop_deadline", |c, f| {
                put(&mut c.calls.stop_deadline, f.duration(HOUR));
            }),
        ],
    },
    Section {
        name: "worker",
        keys: &[
            key("user", |c, f| put(&mut c.worker.user, some(f.id()))),
            key("memory_limit", |c, f| {
                put(&mut c.worker.memory_limit, some(f.size(LEAST_MEMORY)));
            }),
            key("event_loops", |c, f| {
                put(&mut c.worker.event_loops, f.number(1, 256));
            }),
            key("threads", |c, f| {
                put(&mut c.worker.threads, f.number(1, 65_536));
            }),
            key("threads_per_plugin", |c, f| {
                put(&mut c.worker.threads_per_plugin, f.number(1, 65_536));
            }),
            key("recycle_generations", |c, f| {
                put(&mut c.worker.recycle_generations, f.number(1, 100_000));
            }),
            key("recycle_memory", |c, f| {
                put(&mut c.worker.recycle_memory, some(f.size(LEAST_MEMORY)));
            }),
            key("recycle_stuck_threads", |c, f| {
                put(&mut c.worker.recycle_stuck_threads, f.number(1, 65_536));
            }),
            key("recycle_interval", |c, f| {
                put(&mut c.worker.recycle_interval, f.duration(YEAR));
            }),
        ],
    },
    Section {
        name: "state",
        keys: &[key("dir", |c, f| put(&mut c.state.dir, some(f.path())))],
    },
    Section {
        name: "tokens",
        keys: &[
            // Tokens are 32 bits wide and 0 is none.
            key("max", |c, f| {
                put(&mut c.tokens.max, f.number(1, u32::MAX as usize));
            }),
            key("expire", |c, f| put(&mut c.tokens.expire, f.duration(YEAR))),
        ],
    },
];

fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

/// A value that was read, for a slot that may be empty.
fn some<T>(value: Option<T>) -> Option<Option<T>> {
    value.map(Some)
}

/// Reads the whole file into `config`; faults go to `context`.
pub(super) fn apply(root: &Node, config: &mut Config, context: &Context<'_>) {
    let sections = SECTIONS.iter().map(|section| section.name);
    for (name, value, place) in known(root, None, sections, context) {
        let keys = SECTIONS[place].keys;
        let names = keys.iter().map(|key| key.name);
        for (key, node, place) in known(value, Some(name), names, context) {
            let name = format!("{name}.{key}");
            context.places.borrow_mut().insert(name.clone(), node.at);
            let field = Field {
                name,
                node,
                context,
            };
            (keys[place].set)(config, &field);
        }
    }
    check_threads(config, context);
}

/// The entries of a mapping whose keys are among `names`, with the index of the name. Entries
/// without a value are left out: they mean the default.
pub(super) fn known<'n>(
    node: &'n Node,
    section: Option<&str>,
    names: impl Iterator<Item = &'static str> + Clone,
    context: &Context<'_>,
) -> Vec<(&'n str, &'n Node, usize)> {
    let Kind::Map(pairs) = &node.kind else {
        let what = section.map_or("the file".into(), |section| format!("`{section}`"));
        let found = node.described();
        context.fault(
            node.at,
            format!("{what} must be a mapping of keys to values, not {found}"),
        );
        return Vec::new();
    };
    let mut entries = Vec::new();
    for (key, key_node, value) in context.entries(pairs) {
        match names.clone().position(|name| name == key) {
            None => context.fault(key_node.at, unknown(key, section, names.clone())),
            Some(_) if value.is_null() => {}
            Some(place) => entries.push((key, value, place)),
        }
    }
    entries
}

fn unknown(key: &str, section: Option<&str>, names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names.collect();
    let place = section.map_or(String::new(), |section| format!(" in `{section}`"));
    match nearest(key, &names) {
        Some(name) => format!("unknown key `{key}`{place}; did you mean `{name}`?"),
        None => format!(
            "unknown key `{key}`{place}; the keys here are {}",
            names.join(", ")
        ),
    }
}

fn nearest(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(&key.to_lowercase(), name);
    let nearest = names.iter().copied().min_by_key(distance)?;
    // A third of the letters may differ; more is another word.
    (distance(&nearest) <= nearest.len().max(3) / 3).then_some(nearest)
}

fn socket_file(field: &Field<'_>) -> Option<std::path::PathBuf> {
    let text = field.text()?;
    let base = field.context.file.parent()?;
    match super::load::socket_path(&text, base) {
        Ok(path) => Some(path),
        Err(complaint) => field.refuse(complaint),
    }
}

fn file_name(field: &Field<'_>) -> Option<String> {
    let name = field.text()?;
    if name.contains('/') {
        return field.refuse(format!(
            "is `{name}`; it must be a file name in the plugins folder, without `/`"
        ));
    }
    Some(name)
}

fn sha256(field: &Field<'_>) -> Option<String> {
    // As an id: a sum of 64 digits is a number to YAML.
    let sum = field.id()?.to_ascii_lowercase();
    if sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return field.refuse(format!(
            "is `{sum}`; it must be the sha256 sum of a library, 64 hex digits"
        ));
    }
    Some(sum)
}

/// One plugin's share must fit into all threads. A share that nobody chose gives way.
fn check_threads(config: &mut Config, context: &Context<'_>) {
    let worker = &mut config.worker;
    let (all, share) = (worker.threads, worker.threads_per_plugin);
    if share <= all {
        return;
    }
    let key = "worker.threads_per_plugin";
    match context.places.borrow().get(key) {
        Some(at) => context.fault(
            *at,
            format!("`{key}` is {share}, which is more than `worker.threads` ({all})"),
        ),
        None => worker.threads_per_plugin = all,
    }
}
