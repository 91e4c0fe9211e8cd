//! An OCI container, from plan to process, in the order in which it happens.

mod child;
mod console;
mod conversation;
mod create;
mod exec;
mod gate;
mod hooks;
mod lifecycle;
mod listener;
mod namespaces;
mod program;
mod protocol;
mod remove;
pub mod self_exe;
mod status;
mod sysctl;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Spec;

use crate::state::ContainerId;

pub use conversation::end;
pub use create::{Launch, create};
pub use exec::{ExecRequest, exec};
pub use lifecycle::{State, kill, list, processes, start, state};
pub use remove::{Made, delete};

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
    /// Gets a session keyring of its own, keyrings(7), instead of the caller's.
    pub keyring: bool,
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
