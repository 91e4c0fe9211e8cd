//! Verbs that start from a bundle: create, run, spec.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::{absolute, terminal};
use crate::container::{self, Created, Launch, Request, Stdio};
use crate::error::{Context, Error, Result};
use crate::spec::{load, template};
use crate::state::{ContainerId, Store};
use crate::sys::process;

/// What create and run have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Unix socket that the terminal's master end is sent to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File that the pid of the container's first process is written to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Keep the caller's session keyring (runp never makes another)
    #[arg(long)]
    no_new_keyring: bool,
}

/// Create a container; its program is executed by `start`
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    common: Common,
}

/// Create a container and start it
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    common: Common,
    /// Return once the program runs, and leave it running
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    keep: bool,
    /// Accepted for callers of runc; runp is no subreaper
    #[arg(long)]
    no_subreaper: bool,
}

impl Create {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        let created = self.common.create(store, Launch::AtGate, true)?;
        self.common.hand_over(store, &created)?;
        Ok(0)
    }
}

impl Run {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        if self.detach {
            let created = self.common.create(store, Launch::Now, true)?;
            self.common.hand_over(store, &created)?;
            return Ok(0);
        }
        let foreground = terminal::Foreground::prepare()?;
        let mut created = self.common.create(store, Launch::Now, false)?;
        self.common.hand_over(store, &created)?;
        let console = match self.common.console_socket {
            Some(_) => None,
            None => created.console.take(),
        };
        let ended = foreground.wait(&created.pidfd, console);
        let deleted = match self.keep {
            true => Ok(()),
            false => container::remove_ended(store, &self.common.id, &created),
        };
        match ended {
            Ok(exit) => deleted.map(|()| exit.code()),
            Err(e) => Err(e.and_cleanup(deleted)),
        }
    }
}

impl Common {
    fn create(&self, store: &Store, launch: Launch, detached: bool) -> Result<Created> {
        let bundle = absolute(&self.bundle)?;
        let spec = load::load(&bundle)?;
        let wants = spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal());
        let wants_terminal = wants.unwrap_or(false);
        let has_socket = self.console_socket.is_some();
        if wants_terminal && detached && !has_socket {
            return Err(
                Error::new("process.terminal is true, and nobody would hold the terminal")
                    .hint("give a --console-socket, or run in the foreground"),
            );
        }
        if has_socket && !wants_terminal {
            return Err(
                Error::new("--console-socket is given, and process.terminal is not true")
                    .hint("set process.terminal in config.json, or leave --console-socket out"),
            );
        }
        let request = Request {
            id: &self.id,
            bundle,
            spec: &spec,
            overlay: None,
            sources: BTreeMap::new(),
            stdio: if wants_terminal {
                Stdio::Terminal
            } else {
                Stdio::Inherit
            },
        };
        container::create(store, &request, launch)
    }

    /// Gives the terminal and the pid to whom the caller said; if that is not possible the container is removed again.
    fn hand_over(&self, store: &Store, created: &Created) -> Result<()> {
        let given = match (&self.console_socket, &created.console) {
            (Some(socket), Some(console)) => terminal::send(socket, console.as_fd()),
            _ => Ok(()),
        };
        given
            .and_then(|()| write_pid_file(self.pid_file.as_deref(), created.pid))
            .map_err(|e| {
                let deleted = container::delete(store, &self.id, true);
                let _ = process::wait(&created.pidfd);
                e.and_cleanup(deleted)
            })
    }
}

/// Writes the pid in one step, so that a reader never sees half of it.
pub(super) fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let step = || format!("write --pid-file {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::new(step()))?;
    let new = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .map_err(|e| {
            let _ = fs::remove_file(&new);
            Error::sys(step(), e)
        })
}

/// Write a config.json to start from
#[derive(Debug, clap::Args)]
pub(super) struct SpecFile {
    /// The directory that it is written to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
}

impl SpecFile {
    pub(super) fn run(self) -> Result<i32> {
        use std::io::Write;
        let path = self.bundle.join("config.json");
        let step = || format!("write {}", path.display());
        let mut file = fs::File::create_new(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::new(step()).hint("it exists: remove it first")
            }
            _ => Error::sys(step(), e),
        })?;
        file.write_all(template::TEMPLATE.as_bytes())
            .context(step)?;
        Ok(0)
    }
}
