//! What tells one state of a file from another without reading it, and who may have written it.

use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

/// A file's state by `stat`, symbolic links followed. Equal fingerprints: the content did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    dev: u64,
    ino: u64,
    /// Bytes.
    pub size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

impl Fingerprint {
    /// The fingerprint in what `stat` or `fstat` said.
    pub fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, ns: u64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size as u64,
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether the content was written less than `age` before `now`, or after it.
    pub fn written_within(&self, age: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos() as i128);
        now - self.mtime_ns < age.as_nanos() as i128
    }

    /// Whether it may change once more without a difference: file systems count in steps, most in some milliseconds, and
    /// those that keep whole ones only in up to two seconds.
    pub fn may_hide_a_change(&self, now: SystemTime) -> bool {
        let step = match self.ctime_ns % 1_000_000 {
            0 => Duration::from_secs(3),
            _ => Duration::from_millis(100),
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos() as i128);
        now - self.ctime_ns < step.as_nanos() as i128
    }

    /// Whether two states of one file have the same content, whatever its names and rights are.
    pub fn is_same_content(&self, other: &Self) -> bool {
        let content = |of: &Self| (of.dev, of.ino, of.size, of.mtime_ns);
        content(self) == content(other)
    }

    #[cfg(test)]
    pub(crate) fn for_test(number: u64) -> Self {
        Self {
            dev: 1,
            ino: number,
            size: 1,
            mtime_ns: 0,
            ctime_ns: 0,
        }
    }
}

/// Which plugins folder and files are trusted.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    /// Whether we are root.
    pub root: bool,
    /// `plugins.allow_writable`: everything is trusted.
    pub allow_writable: bool,
}

impl Trust {
    /// Why somebody else could put code here, or `None` if only trusted users can.
    pub fn fault(self, stat: &Stat) -> Option<String> {
        let (mode, owner) = (stat.st_mode, stat.st_uid);
        match () {
            () if self.allow_writable => None,
            () if mode & 0o002 != 0 => Some(format!(
                "everybody may write it (mode {:03o})",
                mode & 0o777
            )),
            () if !self.root => None,
            () if owner != 0 => Some(format!(
                "it belongs to user {owner}, and the runner is root"
            )),
            () if mode & 0o020 != 0 => Some(format!(
                "its group may write it (mode {:03o}), and the runner is root",
                mode & 0o777
            )),
            () => None,
        }
    }

    /// What to do about a [`Trust::fault`].
    pub const HINT: &str = "make it writable for its owner only (chown, chmod go-w), or set plugins.allow_writable: true \
                            if whoever can write there may run code in the runner";
}

/// Whether this is a regular file.
pub fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(root: bool, allow_writable: bool, uid: u32, mode: u32) -> Option<String> {
        let mut stat = rustix::fs::stat("/").unwrap();
        (stat.st_mode, stat.st_uid) = (mode, uid);
        let trust = Trust {
            root,
            allow_writable,
        };
        trust.fault(&stat)
    }

    #[test]
    fn what_the_world_may_write_is_not_trusted_unless_allowed() {
        assert!(fault(false, false, 1000, 0o100_666).is_some());
        assert!(fault(true, false, 0, 0o100_646).is_some());
        assert_eq!(fault(true, true, 1000, 0o040_777), None);
    }

    #[test]
    fn root_trusts_only_what_only_root_can_write() {
        assert!(fault(true, false, 1000, 0o100_644).is_some());
        assert!(fault(true, false, 0, 0o100_664).is_some());
        assert_eq!(fault(true, false, 0, 0o100_644), None);
        assert_eq!(fault(false, false, 1000, 0o100_664), None);
    }
}
