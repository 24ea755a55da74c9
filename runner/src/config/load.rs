//! From file, environment and arguments to one checked configuration. The only part that opens
//! a file; the environment comes in through [`Sources`].

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fault::{Fault, Faults};
use super::field::Context;
use super::{Config, keys, yaml};

/// gateway: the address it will connect to, `unix:<path>`.
const ADDRESS: &str = "APISIX_LISTEN_ADDRESS";
/// gateway: after how many seconds it forgets a token.
const EXPIRE: &str = "APISIX_CONF_EXPIRE_TIME";
/// `sockaddr_un` has room for 108 bytes, the last of which is 0.
const MAX_SOCKET_PATH: usize = 107;

/// Looks up an environment variable.
pub type Environment = Box<dyn Fn(&str) -> Option<OsString>>;

/// Where a configuration comes from.
pub struct Sources {
    /// `--config`; `None` looks beside the executable and in `system`.
    pub config: Option<PathBuf>,
    /// `--plugins`; wins over `plugins.dir`.
    pub plugins: Option<PathBuf>,
    /// Whether it is a fault if neither names a plugins folder.
    pub needs_plugins: bool,
    /// The executable, absolute.
    pub exe: PathBuf,
    /// The working directory: where relative arguments and variables start.
    pub cwd: PathBuf,
    /// The folder of last resort for `config.yaml`.
    pub system: PathBuf,
    /// Whether we run as root.
    pub root: bool,
    pub env: Environment,
}

impl Sources {
    /// The sources of this process, with a plugins folder needed.
    ///
    /// # Errors
    /// When the system does not say where the executable or the working directory is.
    pub fn of_process(config: Option<PathBuf>, plugins: Option<PathBuf>) -> io::Result<Self> {
        Ok(Self {
            config,
            plugins,
            needs_plugins: true,
            exe: std::env::current_exe()?,
            cwd: std::env::current_dir()?,
            system: PathBuf::from("/etc/plugin-runner"),
            root: rustix::process::geteuid().is_root(),
            env: Box::new(|name| std::env::var_os(name)),
        })
    }

    /// The files that are tried, in this order. Never one in the working directory: there the
    /// gateway keeps a `conf/config.yaml` of its own.
    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.config {
            return vec![self.cwd.join(file)];
        }
        let mut folders = Vec::new();
        if let Some(bin) = self.exe.parent() {
            folders.push(bin.join("conf"));
            folders.extend(bin.parent().map(|parent| parent.join("conf")));
        }
        folders.push(self.system.clone());
        folders.iter().map(|dir| dir.join("config.yaml")).collect()
    }

    /// A variable that is set, not empty and text.
    fn variable(&self, name: &str) -> Result<Option<String>, Fault> {
        match (self.env)(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
            Some(Err(_)) => Err(elsewhere(format!(
                "environment variable `{name}` is not UTF-8"
            ))),
        }
    }

    /// For `$env.NAME` in the file. The address may be missing: the file that all runners ship
    /// names it, and outside of a gateway nobody sets it.
    fn lookup(&self, name: &str) -> Option<OsString> {
        let value = (self.env)(name);
        if name == ADDRESS && value.as_ref().is_none_or(|value| value.is_empty()) {
            return Some(super::DEFAULT_SOCKET.into());
        }
        value
    }
}

/// Reads and checks everything.
///
/// # Errors
/// All faults at once.
pub fn load(sources: &Sources) -> Result<Config, Faults> {
    let mut config = Config::default();
    let mut faults = Vec::new();
    keep(read_file(sources, &mut config, &mut faults), &mut faults);
    keep(read_environment(sources, &mut config), &mut faults);
    keep(read_expiry(sources, &mut config), &mut faults);
    keep(read_arguments(sources, &mut config), &mut faults);
    if config.state.dir.is_none() {
        config.state.dir = state_dir(sources);
    }
    keep(check_paths(&config), &mut faults);
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(Faults::new(faults))
    }
}

fn keep(result: Result<(), Fault>, faults: &mut Vec<Fault>) {
    faults.extend(result.err());
}

/// A fault that does not stand in a file.
fn elsewhere(message: String) -> Fault {
    Fault {
        file: None,
        position: None,
        message,
    }
}

fn read_file(sources: &Sources, config: &mut Config, faults: &mut Vec<Fault>) -> Result<(), Fault> {
    let Some((file, text)) = find(sources)? else {
        return Ok(());
    };
    let root = yaml::parse(&text).map_err(|(position, message)| Fault {
        file: Some(file.clone()),
        position: Some(position),
        message,
    })?;
    let context = Context {
        file: &file,
        env: &|name| sources.lookup(name),
        faults: RefCell::default(),
        places: RefCell::default(),
    };
    if let Some(root) = root.filter(|root| !root.is_null()) {
        keys::apply(&root, config, &context);
    }
    faults.append(&mut context.faults.into_inner());
    config.file = Some(file);
    Ok(())
}

/// The first candidate that exists, and its text.
fn find(sources: &Sources) -> Result<Option<(PathBuf, String)>, Fault> {
    for file in sources.candidates() {
        match std::fs::read_to_string(&file) {
            Ok(text) => return Ok(Some((file, text))),
            Err(error) if sources.config.is_none() && is_absent(&error) => {}
            Err(error) => {
                let message = format!("cannot read the configuration: {error}");
                return Err(Fault {
                    file: Some(file),
                    position: None,
                    message,
                });
            }
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn read_environment(sources: &Sources, config: &mut Config) -> Result<(), Fault> {
    if let Some(address) = sources.variable(ADDRESS)? {
        config.socket.file = socket_path(&address, &sources.cwd).map_err(|complaint| {
            elsewhere(format!("environment variable `{ADDRESS}` {complaint}"))
        })?;
    }
    Ok(())
}

/// We keep a token 1.2 times as long as the gateway, so that it never names one we dropped.
fn read_expiry(sources: &Sources, config: &mut Config) -> Result<(), Fault> {
    let Some(text) = sources.variable(EXPIRE)? else {
        return Ok(());
    };
    let seconds = text.parse::<u32>().ok().filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| {
        elsewhere(format!(
            "environment variable `{EXPIRE}` is `{text}`; it must be a number of seconds, 1 or more"
        ))
    })?;
    config.tokens.expire = Duration::from_millis(u64::from(seconds) * 1200);
    Ok(())
}

fn read_arguments(sources: &Sources, config: &mut Config) -> Result<(), Fault> {
    if let Some(dir) = &sources.plugins {
        config.plugins.dir = Some(sources.cwd.join(dir));
    }
    if config.plugins.dir.is_some() || !sources.needs_plugins {
        return Ok(());
    }
    let place = match &config.file {
        Some(file) => format!("in {}", file.display()),
        None => "in a configuration file".into(),
    };
    Err(elsewhere(format!(
        "no plugins folder: give `--plugins DIR`, or set `plugins.dir` {place}"
    )))
}

/// The socket's path in what the gateway or the file calls its address.
pub(super) fn socket_path(address: &str, base: &Path) -> Result<PathBuf, String> {
    let path = address.strip_prefix("unix:").unwrap_or(address);
    let complaint = |text: &str| Err(format!("is `{address}`; {text}"));
    if path.is_empty() || path.ends_with('/') {
        return complaint("it must be the path of a Unix socket");
    }
    if path.contains('\0') {
        return complaint("a path holds no NUL byte");
    }
    let path = base.join(path);
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return complaint(&format!(
            "the path of a Unix socket has {MAX_SOCKET_PATH} bytes at most, this one has {length}"
        ));
    }
    Ok(path)
}

/// As root /var/lib, otherwise where the user keeps state; `None` if there is no such place.
fn state_dir(sources: &Sources) -> Option<PathBuf> {
    if sources.root {
        return Some("/var/lib/plugin-runner".into());
    }
    let folder = |name: &str| {
        let path = PathBuf::from((sources.env)(name)?);
        path.is_absolute().then_some(path)
    };
    let state = folder("XDG_STATE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("plugin-runner"))
}

/// The configuration travels as JSON, which cannot say a path that is not UTF-8.
fn check_paths(config: &Config) -> Result<(), Fault> {
    let paths = [
        &config.file,
        &Some(config.socket.file.clone()),
        &config.logging.file,
        &config.plugins.dir,
        &config.bindings.file,
        &config.state.dir,
    ];
    match paths
        .into_iter()
        .flatten()
        .find(|path| path.to_str().is_none())
    {
        Some(path) => Err(elsewhere(format!("the path {path:?} is not UTF-8"))),
        None => Ok(()),
    }
}
