//! Verbs that start from a bundle: create, run, spec.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::{absolute, terminal};
use crate::container::{self, Created, Launch, Made, Request, Stdio};
use crate::error::{Context, Error, Result};
use crate::spec::{load, template};
use crate::state::{ContainerId, Store};

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
    /// Keep the caller's session keyring instead of a new one
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
        self.common.create(store, Launch::AtGate, true)?;
        Ok(0)
    }
}

impl Run {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        if self.detach {
            self.common.create(store, Launch::Now, true)?;
            return Ok(0);
        }
        let foreground = terminal::Foreground::prepare()?;
        let mut made = self.common.create(store, Launch::Now, false)?;
        let console = match self.common.console_socket {
            Some(_) => None,
            None => made.process.console.take(),
        };
        let ended = foreground.wait(&made.process.pidfd, console);
        let removed = match self.keep {
            true => Ok(()),
            false => made.remove(),
        };
        match ended {
            Ok(exit) => removed.map(|()| exit.code()),
            Err(e) => Err(e.and_cleanup(removed)),
        }
    }
}

impl Common {
    fn create(&self, store: &Store, launch: Launch, detached: bool) -> Result<Made> {
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
            root: None,
            sources: BTreeMap::new(),
            stdio: match wants_terminal {
                true => Stdio::Terminal,
                false => Stdio::Inherit,
            },
            no_pivot: false,
            keyring: !self.no_new_keyring,
        };
        let made = container::create(store, &request, launch)?;
        match hand_over(
            &made.process,
            self.console_socket.as_deref(),
            self.pid_file.as_deref(),
        ) {
            Ok(()) => Ok(made),
            Err(e) => Err(container::end(&made.process.pidfd, e).and_cleanup(made.remove())),
        }
    }
}

/// Gives the terminal and the pid of a new process to whom the caller said.
pub(super) fn hand_over(
    process: &Created,
    console_socket: Option<&Path>,
    pid_file: Option<&Path>,
) -> Result<()> {
    if let (Some(socket), Some(console)) = (console_socket, &process.console) {
        terminal::send(socket, console.as_fd())?;
    }
    pid_file.map_or(Ok(()), |path| write_pid_file(path, process.pid))
}

/// Writes the pid in one step, so that a reader never sees half of it.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
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
