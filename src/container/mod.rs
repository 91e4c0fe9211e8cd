//! An OCI container, from plan to process, in the order in which it happens.

pub mod checkpoint;
mod child;
mod console;
mod conversation;
mod create;
pub mod criu;
mod events;
mod exec;
mod gate;
mod hooks;
pub(crate) mod host_program;
mod id_maps;
mod lifecycle;
mod listener;
mod namespaces;
mod net_devices;
pub mod notify;
mod pause;
mod program;
mod protocol;
mod remove;
pub mod restore;
pub mod self_exe;
mod status;
pub(crate) mod sysctl;
mod update;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Spec;

use crate::state::ContainerId;
use crate::sys::process::Child;

pub use conversation::end;
pub use create::{Launch, create, create_meanwhile};
pub use events::{Event, stats, watch, watch_oom};
pub use exec::{ExecRequest, exec};
pub use gate::address as socket_address;
pub use lifecycle::{State, kill, list, processes, start, state};
pub(crate) use namespaces::in_network;
pub use pause::{pause, resume};
pub use program::home_in;
pub use remove::{Made, delete};
pub use update::update;

/// What to make a container of. The CLI fills it from a bundle, the pod supervisor from a pod plan.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its id, unique under one state root.
    pub id: &'a ContainerId,
    /// The bundle's directory; a relative `root.path` starts there.
    pub bundle: PathBuf,
    /// The configuration.
    pub spec: &'a Spec,
    /// A detached mount that is its root, instead of `root.path` itself: a writable layer over that, for example.
    pub root: Option<OwnedFd>,
    /// By index into `spec.mounts`: a detached mount (open_tree(2) `OPEN_TREE_CLONE`) to attach instead of binding
    /// `source`, for sources that were resolved safely beforehand (a subPath, CVE-2021-25741).
    pub sources: BTreeMap<usize, OwnedFd>,
    /// Where standard input, output and error go.
    pub stdio: Stdio,
    /// What the caller wants besides.
    pub options: Options,
}

/// What a caller can want of a container that its configuration does not say. By default: nothing.
#[derive(Debug, Default)]
pub struct Options {
    /// It keeps the caller's session keyring, keyrings(7), instead of getting its own.
    pub no_new_keyring: bool,
    /// It enters its root by chroot(2): pivot_root(2) cannot leave an initramfs.
    pub no_pivot: bool,
    /// Whether it may go without a cgroup where its user may not make one; by default only if that is not root.
    pub rootless: Option<bool>,
    /// How many descriptors of the caller from 3 on its first process inherits. All others are closed.
    pub files: u16,
    /// Variables in addition to those of its configuration, in the place of those of the same name.
    pub env: Vec<CString>,
    /// systemd makes its cgroup.
    pub systemd_cgroup: bool,
    /// A socket that its first process's pidfd is sent to before its program runs, and what is sent with it: for who wants to know
    /// how it ends even if its maker does not live to see that.
    pub announce: Option<(OwnedFd, Vec<u8>)>,
    /// With [`Stdio::Terminal`]: a socket that the terminal's master end is sent to as well, likewise. A terminal whose last master
    /// end is closed hangs up, and the program with it.
    pub announce_terminal: Option<(OwnedFd, Vec<u8>)>,
    /// It gets the directory in which `start` listens for `READY=1`, sd_notify(3).
    pub notify: bool,
    /// A process that lives on: namespaces of its that config.json names by its pid (`/proc/PID/ns/net`) are joined all at once.
    pub holder: Option<Child>,
}

/// Standard input, output and error of a container's process.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These three.
    Files([OwnedFd; 3]),
    /// A new terminal; its master end is returned to the caller.
    Terminal,
}

/// A process in a container, made by the caller.
#[derive(Debug)]
pub struct Created {
    /// In the caller's pid namespace. The caller is its parent and must wait for it.
    pub pid: i32,
    /// The same process as a file: readable once it has ended.
    pub pidfd: OwnedFd,
    /// The terminal's master end, with [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
}
