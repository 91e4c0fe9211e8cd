//! Which process is meant. A pid alone never says that: it is used again.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::sys::process;

/// A process of this boot: its pid and when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// In the pid namespace that runp runs in.
    pub pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc(5)).
    pub start_time: u64,
}

impl Identity {
    /// The process that has this pid now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> Result<Self> {
        Self::with_ignored_signals(pid).map(|(identity, _)| identity)
    }

    /// The process that has this pid now, and the signals 1 to 31 that it ignores: bit n - 1 is signal n.
    ///
    /// # Errors
    /// When there is none.
    pub fn with_ignored_signals(pid: i32) -> Result<(Self, u32)> {
        let stat = read_stat(pid).context(|| format!("read /proc/{pid}/stat"))?;
        let stat =
            parse_stat(&stat).ok_or_else(|| Error::new(format!("parse /proc/{pid}/stat")))?;
        let identity = Self {
            pid,
            start_time: stat.start_time,
        };
        Ok((identity, stat.ignored))
    }

    /// Whether it still runs: a zombie does not.
    pub fn is_alive(&self) -> bool {
        read_stat(self.pid)
            .ok()
            .and_then(|stat| parse_stat(&stat))
            .is_some_and(|stat| {
                stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X')
            })
    }

    /// The process as a file, if it still runs. What is checked after the file was opened holds for it for good.
    ///
    /// # Errors
    /// As pidfd_open(2), except that a process which has gone is `None`.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let pidfd = process::open(self.pid).context(|| format!("pidfd_open {}", self.pid))?;
        Ok(pidfd.filter(|_| self.is_alive()))
    }
}

fn read_stat(pid: i32) -> rustix::io::Result<String> {
    read_small(&format!("/proc/{pid}/stat"))
}

/// Reads a file of procfs that is shorter than a page, in one go.
fn read_small(path: &str) -> rustix::io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let mut text = [0; 4096];
    let length = rustix::io::read(&file, &mut text)?;
    // A program may have given itself a name that is not UTF-8.
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// Fields 3, 22 and 33 of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_time: u64,
    ignored: u32,
}

/// The name before the other fields may hold anything, `)` too: what counts is after the last one.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        start_time: fields.nth(18)?.parse().ok()?,
        ignored: fields.nth(10)?.parse().ok()?,
    })
}

/// This boot of the machine, random(4): state of another boot is worthless.
///
/// # Errors
/// When procfs is not mounted.
pub fn boot_id() -> Result<String> {
    // The same as long as this process lives.
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id.clone());
    }
    let path = "/proc/sys/kernel/random/boot_id";
    let text = read_small(path).context(|| format!("read {path}"))?;
    Ok(ID.get_or_init(|| text.trim_end().into()).clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_past_a_hostile_name() {
        let rest = "S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 777 23 24 25 26 27 28 29 30 31 32 4096 34";
        assert_eq!(
            parse_stat(&format!("1 (a) b) Z 9) {rest}")),
            Some(Stat {
                state: 'S',
                start_time: 777,
                ignored: 4096
            })
        );
        assert_eq!(parse_stat("1 (a"), None);
        assert_eq!(parse_stat("1 (a) S 1"), None);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = Identity::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        assert!(me.open().unwrap().is_some());
        let stranger = Identity {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!stranger.is_alive());
        assert!(stranger.open().unwrap().is_none());
    }
}
