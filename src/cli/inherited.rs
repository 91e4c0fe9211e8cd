//! Descriptors that callers leave open for a container: sockets of systemd, sd_listen_fds(3), and `--preserve-fds`.

use std::ffi::CString;

use rustix::io::{FdFlags, fcntl_getfd};

use crate::error::{Error, Result};
use crate::sys::process::inherited;

/// The first of systemd's sockets, `SD_LISTEN_FDS_START`.
const FIRST: i32 = 3;

/// What systemd has left open for the process that `LISTEN_PID` names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listening {
    /// How many sockets, from 3 on.
    pub(super) files: u16,
    /// What tells a container of them, in which they are for pid 1.
    pub(super) env: Vec<CString>,
}

impl Listening {
    /// Ours, if any.
    pub(super) fn from_environment() -> Self {
        Self::of(|name| std::env::var(name).ok(), std::process::id())
    }

    fn of(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        let number = |name: &str| variable(name)?.parse::<u32>().ok();
        let files = number("LISTEN_FDS").and_then(|files| u16::try_from(files).ok());
        let Some(files) = files.filter(|files| *files > 0 && number("LISTEN_PID") == Some(pid))
        else {
            return Self::default();
        };
        let names = variable("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}"));
        let env = [format!("LISTEN_FDS={files}"), "LISTEN_PID=1".into()]
            .into_iter()
            .chain(names);
        Self {
            files,
            env: env.filter_map(|entry| CString::new(entry).ok()).collect(),
        }
    }
}

/// Checks that the caller has left open what a container shall inherit, and not something of ours has got its number:
/// all of ours are close-on-exec.
pub(super) fn check(listening: u16, preserved: u16) -> Result<u16> {
    let files = listening.saturating_add(preserved);
    let is_open =
        |fd| fcntl_getfd(inherited(fd)).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC));
    match (FIRST..FIRST + i32::from(files)).find(|fd| !is_open(*fd)) {
        None => Ok(files),
        Some(fd) => Err(Error::new(format!(
            "--preserve-fds {preserved}: descriptor {fd} is not open"
        ))
        .hint(match listening {
            0 => "they count from 3".into(),
            _ => format!(
                "they count from {}, after those of LISTEN_FDS",
                FIRST + i32::from(listening)
            ),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(variables: &[(&str, &str)]) -> Listening {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Listening::of(variable, 7)
    }

    #[test]
    fn sockets_are_for_the_process_that_they_name() {
        let ours = listening(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "7")]);
        assert_eq!(ours.files, 2);
        assert_eq!(
            ours.env,
            [c"LISTEN_FDS=2".to_owned(), c"LISTEN_PID=1".to_owned()]
        );
        let named = [
            ("LISTEN_FDS", "1"),
            ("LISTEN_PID", "7"),
            ("LISTEN_FDNAMES", "web"),
        ];
        assert_eq!(listening(&named).env[2], c"LISTEN_FDNAMES=web".to_owned());
        for others in [
            &[("LISTEN_FDS", "2"), ("LISTEN_PID", "8")][..],
            &[("LISTEN_FDS", "2")],
            &[("LISTEN_FDS", "0"), ("LISTEN_PID", "7")],
            &[("LISTEN_FDS", "-1"), ("LISTEN_PID", "7")],
            &[("LISTEN_PID", "7")],
        ] {
            assert_eq!(listening(others), Listening::default(), "{others:?}");
        }
    }

    #[test]
    fn what_is_ours_is_not_the_callers() {
        let fd = |file: &std::fs::File| std::os::fd::AsRawFd::as_raw_fd(file);
        let ours = std::fs::File::open("/dev/null");
        let highest = ours.as_ref().map_or(3, fd);
        assert!(check(0, 0).is_ok());
        let wanted = u16::try_from(highest - 2).unwrap_or(1);
        assert!(check(0, wanted).is_err());
    }
}
