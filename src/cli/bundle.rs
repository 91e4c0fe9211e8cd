//! Verbs that start from a bundle: create, run, spec.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use oci_spec::runtime::Spec;

use super::hand_over::HandOver;
use super::inherited::{self, Listening};
use super::{Cgroups, absolute, notify, terminal};
use crate::container::{self, Launch, Made, Options, Request, Stdio};
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
    #[command(flatten)]
    hand_over: HandOver,
    /// Move the root onto the old one, which an initial RAM disk needs, instead of pivot_root(2): less safe
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring instead of a new one
    #[arg(long)]
    no_new_keyring: bool,
    /// Let the container inherit N descriptors from 3 on, after those of LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
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
    pub(super) fn run(self, store: &Store, cgroups: Cgroups) -> Result<i32> {
        self.common.create(store, cgroups, Launch::AtGate, true)?;
        Ok(0)
    }
}

impl Run {
    pub(super) fn run(self, store: &Store, cgroups: Cgroups) -> Result<i32> {
        if self.detach {
            return self.run_detached(store, cgroups);
        }
        let foreground = terminal::Foreground::prepare()?;
        let mut made = self.common.create(store, cgroups, Launch::Now, false)?;
        let console = match self.common.hand_over.console_socket {
            Some(_) => None,
            None => made.process.console.take(),
        };
        let notify = notify::Host::from_environment().zip(made.notify.take());
        let ended = foreground.wait(&made.process.pidfd, console, notify);
        let removed = match self.keep {
            true => Ok(()),
            false => made.remove(),
        };
        match ended {
            Ok(exit) => removed.map(|()| exit.code()),
            Err(e) => Err(e.and_cleanup(removed)),
        }
    }

    fn run_detached(self, store: &Store, cgroups: Cgroups) -> Result<i32> {
        let made = self.common.create(store, cgroups, Launch::Now, true)?;
        let process = &made.process;
        if let Some((host, socket)) = notify::Host::from_environment().zip(made.notify.as_ref()) {
            host.forward(socket, &process.pidfd, process.pid)?;
        }
        Ok(0)
    }
}

impl Common {
    fn create(
        &self,
        store: &Store,
        cgroups: Cgroups,
        launch: Launch,
        detached: bool,
    ) -> Result<Made> {
        let bundle = absolute(&self.bundle)?;
        let mut spec = load::load(&bundle)?;
        let wants = spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal());
        let wants_terminal = wants.unwrap_or(false);
        self.hand_over.check_terminal(wants_terminal, detached)?;
        let options = Options {
            rootless: cgroups.rootless,
            systemd_cgroup: cgroups.systemd,
            ..self.options(store, &mut spec)?
        };
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
            options,
        };
        let made = container::create(store, &request, launch)?;
        match self.hand_over.give(&made.process, "standard") {
            Ok(()) => Ok(made),
            Err(e) => Err(container::end(&made.process.pidfd, e).and_cleanup(made.remove())),
        }
    }

    fn options(&self, store: &Store, spec: &mut Spec) -> Result<Options> {
        let listening = Listening::from_environment();
        let files = inherited::check(listening.files, self.preserve_fds)?;
        let mut env = listening.env;
        let notify = notify::Host::from_environment().is_some();
        if notify {
            env.push(notify::Host::add_to(spec, &store.notify_dir(&self.id))?);
        }
        Ok(Options {
            no_new_keyring: self.no_new_keyring,
            no_pivot: self.no_pivot,
            rootless: None,
            files,
            env,
            notify,
            ..Options::default()
        })
    }
}

/// Write a config.json to start from
#[derive(Debug, clap::Args)]
pub(super) struct SpecFile {
    /// The directory that it is written to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a plain user: its ids become root in a user namespace
    #[arg(long)]
    rootless: bool,
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
        let text = match self.rootless {
            false => Cow::Borrowed(template::TEMPLATE),
            true => {
                let uid = rustix::process::geteuid().as_raw();
                let gid = rustix::process::getegid().as_raw();
                Cow::Owned(format!("{:#}\n", template::rootless(uid, gid)))
            }
        };
        file.write_all(text.as_bytes()).context(step)?;
        Ok(0)
    }
}
