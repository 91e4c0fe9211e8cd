//! checkpoint and restore, through criu(8).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::hand_over::HandOver;
use super::{Global, absolute, terminal};
use crate::container::checkpoint::{self, Checkpoint};
use crate::container::criu::{self, ManageCgroups};
use crate::container::restore::{self, Restore};
use crate::container::{self, Request, Stdio};
use crate::error::{Context, Error, Result};
use crate::spec::load;
use crate::state::{ContainerId, Store};

/// What both take.
#[derive(Debug, clap::Args)]
struct Common {
    /// Directory of criu's images
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    image_path: PathBuf,
    /// Directory of criu's logs, that of the images without it
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Established TCP connections, too
    #[arg(long)]
    tcp_established: bool,
    /// Unix sockets whose other end is outside, too
    #[arg(long)]
    ext_unix_sk: bool,
    /// A session or terminal that is not the container's own, too
    #[arg(long)]
    shell_job: bool,
    /// File locks, too
    #[arg(long)]
    file_locks: bool,
    /// How much of the cgroups is put back
    #[arg(long, value_name = "MODE", default_value = "soft")]
    manage_cgroups_mode: ManageCgroups,
    /// A namespace whose contents somebody else makes: the network, which is one whenever more than the loopback is in it
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<EmptyNamespace>,
    /// Remove pages from earlier checkpoints that this one has
    #[arg(long)]
    auto_dedup: bool,
    /// Copy pages when they are needed, through userfaultfd(2)
    #[arg(long)]
    lazy_pages: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum EmptyNamespace {
    Network,
}

impl Common {
    fn options(&self, criu: &Path, annotations: &HashMap<String, String>) -> Result<criu::Options> {
        Ok(criu::Options {
            program: criu.to_owned(),
            images: absolute(&self.image_path)?,
            work: self.work_path.as_deref().map(absolute).transpose()?,
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            manage_cgroups: self.manage_cgroups_mode,
            empty_network: !self.empty_ns.is_empty(),
            config_file: criu::config_file(annotations),
        })
    }
}

/// Write the processes of a container into files, with criu
#[derive(Debug, clap::Args)]
pub(super) struct CheckpointArguments {
    #[command(flatten)]
    common: Common,
    /// Leave the container running
    #[arg(long)]
    leave_running: bool,
    /// Save the memory only, and leave the container running
    #[arg(long)]
    pre_dump: bool,
    /// An earlier checkpoint, relative to --image-path
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Files that are open and have no name any more, too
    #[arg(long)]
    link_remap: bool,
    /// TCP connections that are about to be made are left out
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// A page server that takes the memory
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Descriptor that gets a NUL byte once lazy pages are served
    #[arg(long, value_name = "FD", default_value_t = -1, allow_negative_numbers = true)]
    status_fd: i32,
}

impl CheckpointArguments {
    pub(super) fn run(self, store: &Store, criu: &Path) -> Result<i32> {
        let annotations = store.look(&self.common.id)?.record()?.annotations;
        let options = Checkpoint {
            common: self.common.options(criu, &annotations)?,
            leave_running: self.leave_running,
            pre_dump: self.pre_dump,
            link_remap: self.link_remap,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            parent: self.parent()?,
            page_server: self.page_server.as_deref().map(page_server).transpose()?,
            status: self.status()?,
        };
        checkpoint::checkpoint(store, &self.common.id, &options)?;
        if !(self.leave_running || self.pre_dump) {
            container::delete(store, &self.common.id, true)?;
        }
        Ok(0)
    }

    fn parent(&self) -> Result<Option<PathBuf>> {
        let Some(parent) = &self.parent_path else {
            return Ok(None);
        };
        let refuse = |why: &str| {
            Err(Error::new(format!(
                "--parent-path {}: {why}",
                parent.display()
            )))
        };
        match () {
            () if parent.is_absolute() => refuse("must be relative to --image-path"),
            () if !self.common.image_path.join(parent).is_dir() => refuse("is no directory"),
            () => Ok(Some(parent.clone())),
        }
    }

    fn status(&self) -> Result<Option<OwnedFd>> {
        if self.status_fd < 0 {
            return Ok(None);
        }
        let path = format!("/proc/self/fd/{}", self.status_fd);
        let file = File::options().write(true).open(path);
        let file = file.context(|| format!("open --status-fd {}", self.status_fd))?;
        Ok(Some(file.into()))
    }
}

fn page_server(given: &str) -> Result<(String, u16)> {
    let parsed = given.rsplit_once(':').and_then(|(address, port)| {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        (!address.is_empty()).then_some((address.to_owned(), port.parse().ok()?))
    });
    parsed.ok_or_else(|| Error::new(format!("--page-server {given:?}")).hint("ADDRESS:PORT"))
}

/// Make a container of a checkpoint, with criu
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    common: Common,
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    #[command(flatten)]
    hand_over: HandOver,
    /// Return once the processes run, and leave them running
    #[arg(short, long)]
    detach: bool,
    /// Accepted for callers of runc; runp is no subreaper
    #[arg(long)]
    no_subreaper: bool,
    /// Accepted for callers of runc: criu enters the root
    #[arg(long)]
    no_pivot: bool,
    /// Another LSM profile than the checkpoint's: apparmor:PROFILE or selinux:LABEL
    #[arg(long, value_name = "TYPE:LABEL")]
    lsm_profile: Option<String>,
    /// Another SELinux context for the mounts that have one
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
}

impl RestoreArguments {
    pub(super) fn run(self, store: &Store, global: &Global) -> Result<i32> {
        let bundle = absolute(&self.bundle)?;
        let spec = load::load(&bundle)?;
        let wants = spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal());
        let wants_terminal = wants.unwrap_or(false);
        self.hand_over.check_terminal(wants_terminal, self.detach)?;
        let options = Restore {
            common: self.common.options(
                &global.criu,
                &spec.annotations().clone().unwrap_or_default(),
            )?,
            lsm_profile: self.lsm_profile,
            lsm_mount_context: self.lsm_mount_context,
        };
        let request = Request {
            id: &self.common.id,
            bundle,
            spec: &spec,
            root: None,
            sources: BTreeMap::new(),
            stdio: Stdio::Inherit,
            options: container::Options {
                systemd_cgroup: global.systemd_cgroup,
                rootless: global.cgroups().rootless,
                ..container::Options::default()
            },
        };
        let foreground = match self.detach {
            true => None,
            false => Some(terminal::Foreground::prepare()?),
        };
        let mut made = restore::restore(store, &request, &options)?;
        if let Err(e) = self.hand_over.give(&made.process, "standard") {
            return Err(container::end(&made.process.pidfd, e).and_cleanup(made.remove()));
        }
        let Some(foreground) = foreground else {
            return Ok(0);
        };
        let console = match self.hand_over.console_socket {
            Some(_) => None,
            None => made.process.console.take(),
        };
        let ended = foreground.wait(&made.process.pidfd, console, None);
        let removed = made.remove();
        match ended {
            Ok(exit) => removed.map(|()| exit.code()),
            Err(e) => Err(e.and_cleanup(removed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        assert_eq!(page_server("127.0.0.1:5"), Ok(("127.0.0.1".into(), 5)));
        assert_eq!(page_server("[::1]:5"), Ok(("::1".into(), 5)));
        for bad in ["", ":5", "a", "a:", "a:b", "a:65536"] {
            assert!(page_server(bad).is_err(), "{bad:?}");
        }
    }
}
