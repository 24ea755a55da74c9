//! Token assignments on disk: `state.dir/tokens`, a line each, appended at once. Holds no configuration.
//!
//! Two runners may share the file while the gateway reloads. Each holds a shared lock; only who is alone rewrites it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, renameat, statat,
    unlinkat,
};

use crate::supervise::state::StateDir;

/// The file's name in `state.dir`.
pub(super) const NAME: &str = "tokens";
const FIRST_LINE: &str = "plugin-runner conf tokens 1";
/// The file is rewritten when it has this many lines more than twice what it needs.
const SLACK: usize = 1000;

/// The open file.
#[derive(Debug)]
pub(super) struct TokenFile {
    folder: OwnedFd,
    file: File,
    expire: Duration,
    lines: usize,
    needed: usize,
}

/// One assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) token: u32,
    pub(super) digest: [u8; 32],
    /// Seconds since 1970.
    pub(super) written: u64,
}

impl TokenFile {
    /// Opens the file, and gives what in it has not expired.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not ours; it is then left as it is.
    pub(super) fn open(
        state: &StateDir,
        expire: Duration,
        now: u64,
    ) -> io::Result<(Self, Vec<Line>)> {
        let folder = state.as_fd().try_clone_to_owned()?;
        let file = open_shared(&folder)?;
        let mut tokens = Self {
            folder,
            file,
            expire,
            lines: 0,
            needed: 0,
        };
        let lines = tokens.read(now)?;
        tokens.rewrite(now)?;
        Ok((tokens, lines))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub(super) fn append(&mut self, token: u32, digest: &[u8; 32], written: u64) -> io::Result<()> {
        let line = Line {
            token,
            digest: *digest,
            written,
        };
        // One write, so that lines of two runners never mix.
        self.file.write_all(line.to_text().as_bytes())?;
        self.lines += 1;
        match self.lines > 2 * self.needed + SLACK {
            true => self.rewrite(written),
            false => Ok(()),
        }
    }

    fn read(&mut self, now: u64) -> io::Result<Vec<Line>> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        let mut lines = text.split_inclusive('\n');
        match lines.next() {
            None => self.file.write_all(format!("{FIRST_LINE}\n").as_bytes())?,
            Some(first) if first.trim_end() == FIRST_LINE => {}
            Some(_) => return Err(io::Error::other("it is not a file of conf tokens")),
        }
        if !text.is_empty() && !text.ends_with('\n') {
            self.file.write_all(b"\n")?; // the machine stopped in the middle of a line
        }
        let mut latest: HashMap<u32, Line> = HashMap::new();
        self.lines = 0;
        for line in lines {
            self.lines += 1;
            let line = line.strip_suffix('\n').and_then(Line::parse);
            if let Some(line) = line
                && now.saturating_sub(line.written) <= self.expire.as_secs()
            {
                latest.insert(line.token, line);
            }
        }
        self.needed = latest.len();
        Ok(latest.into_values().collect())
    }

    /// Leaves out what is no longer needed, if nobody else uses the file.
    fn rewrite(&mut self, now: u64) -> io::Result<()> {
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // The attempt may have lost our shared lock, and with it the file. The next attempt comes as late as if
            // this one had been of use.
            self.file = open_shared(&self.folder)?;
            self.lines = 0;
            return Ok(());
        }
        let lines = self.read(now)?;
        let temporary = format!("{NAME}.{}", std::process::id());
        let _ = unlinkat(&self.folder, &temporary, AtFlags::empty());
        let mut file = open(&self.folder, &temporary, OFlags::EXCL)?;
        let mut text = format!("{FIRST_LINE}\n");
        lines.iter().for_each(|line| text += &line.to_text());
        file.write_all(text.as_bytes())?;
        flock(&file, FlockOperation::LockShared)?;
        renameat(&self.folder, &temporary, &self.folder, NAME)?;
        self.file = file;
        self.lines = lines.len();
        Ok(())
    }
}

/// Opens the file that is at its place once we have a lock on it.
fn open_shared(folder: &OwnedFd) -> io::Result<File> {
    loop {
        let file = open(folder, NAME, OFlags::empty())?;
        flock(&file, FlockOperation::LockShared)?;
        let (ours, there) = (fstat(&file)?, statat(folder, NAME, AtFlags::empty()));
        if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)) {
            return Ok(file);
        }
    }
}

fn open(folder: &OwnedFd, name: &str, more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file = openat(folder, name, flags | more, Mode::from_raw_mode(0o600))?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err(io::Error::other("others may write it"));
    }
    Ok(File::from(file))
}

impl Line {
    fn to_text(self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{:08x} ", self.token);
        for byte in self.digest {
            let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        }
        text + &format!(" {}\n", self.written)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let token = u32::from_str_radix(fields.next()?, 16).ok()?;
        let digest = crate::supervise::workshop::Sha256::try_from(fields.next()?.to_owned());
        let written = fields.next()?.parse().ok()?;
        let whole = token != 0 && fields.next().is_none();
        whole.then_some(Self {
            token,
            digest: digest.ok()?.0,
            written,
        })
    }
}
