//! What containerd types, and now and then a person: flags in Go's way, with one dash or two.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Make the shim of a task, or find the one that its pod has, and print where it listens.
    Start,
    /// Remove what a shim has left that is gone.
    Delete,
    /// Print what the runtime can do.
    Info,
    /// Print the version.
    Version,
}

/// The command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) action: Action,
    pub(super) namespace: String,
    /// containerd's socket.
    pub(super) address: String,
    pub(super) id: String,
    /// By default the working directory.
    pub(super) bundle: Option<PathBuf>,
    pub(super) debug: bool,
}

/// Reads the command line, without the program's name.
///
/// # Errors
/// An unknown flag, a flag without its value, no or an unknown action.
pub(super) fn parse(words: impl IntoIterator<Item = String>) -> Result<Arguments> {
    let mut words = words.into_iter();
    let mut parsed = Arguments {
        action: Action::Version,
        namespace: String::new(),
        address: String::new(),
        id: String::new(),
        bundle: None,
        debug: false,
    };
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-') else {
            parsed.action = match word.as_str() {
                "start" => Action::Start,
                "delete" => Action::Delete,
                _ => return Err(Error::new(format!("unknown action {word:?}")).hint(USAGE)),
            };
            return required(parsed);
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let mut value = || {
            let next = || words.next();
            let missing = || Error::new(format!("flag -{name} needs a value")).hint(USAGE);
            value.clone().or_else(next).ok_or_else(missing)
        };
        match name {
            "namespace" => parsed.namespace = value()?,
            "address" => parsed.address = value()?,
            "id" => parsed.id = value()?,
            "bundle" => parsed.bundle = Some(value()?.into()),
            // Events go to the socket in TTRPC_ADDRESS; the socket's path is chosen here.
            "publish-binary" | "socket" | "debug-socket" => drop(value()?),
            "debug" => parsed.debug = true,
            "v" | "version" => return Ok(parsed),
            "info" => {
                parsed.action = Action::Info;
                return Ok(parsed);
            }
            _ => return Err(Error::new(format!("unknown flag -{name}")).hint(USAGE)),
        }
    }
    Err(Error::new("no action is given").hint(USAGE))
}

const USAGE: &str = "containerd executes it: containerd-shim-runp-v2 -namespace NAMESPACE -address SOCKET -id ID start|delete; \
                     for people there are -v and -info";

fn required(parsed: Arguments) -> Result<Arguments> {
    // Parts of paths: a socket's, a directory's.
    for (flag, value) in [("namespace", &parsed.namespace), ("id", &parsed.id)] {
        if value.is_empty() || value.contains('/') || value.starts_with('.') {
            return Err(Error::new(format!("-{flag} {value:?}: not a name")).hint(USAGE));
        }
    }
    Ok(parsed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn reads_what_containerd_types() {
        let line = "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd \
                    -id abc -debug start";
        let read = read(line).unwrap();
        assert_eq!(read.action, Action::Start);
        assert_eq!((&*read.namespace, &*read.id), ("k8s.io", "abc"));
        assert_eq!(read.address, "/run/containerd/containerd.sock");
        assert!(read.debug);
    }

    #[test]
    fn reads_flags_in_all_of_gos_forms() {
        let read = read("--namespace=x -id=y -bundle /b delete").unwrap();
        assert_eq!(read.action, Action::Delete);
        assert_eq!((&*read.namespace, &*read.id), ("x", "y"));
        assert_eq!(read.bundle, Some("/b".into()));
    }

    #[test]
    fn asks_for_nothing_to_tell_its_version() {
        assert_eq!(read("-v").unwrap().action, Action::Version);
        assert_eq!(read("-info").unwrap().action, Action::Info);
    }

    #[test]
    fn refuses_what_is_no_name_and_what_nobody_knows() {
        for line in [
            "",
            "-id",
            "-id x start",
            "-namespace n start",
            "-namespace n -id a/b start",
            "-namespace .. -id a start",
            "-namespace n -id a stop",
            "-nonsense -namespace n -id a start",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
