//! A container on disk: `state.json`.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{Hooks, LinuxNamespaceType, LinuxResources, Process};
use serde::{Deserialize, Serialize};

use super::{ContainerId, Identity};
use crate::cgroup::systemd::Unit;
use crate::spec::plan::Execution;

/// What must be known of a container to go on with it or to remove it.
///
/// Written first as an intent, before anything else exists: from it alone everything can be removed again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`Record::VERSION`] when it was written.
    pub version: u32,
    /// The container's id.
    pub id: ContainerId,
    /// The runtime-spec version of its config.json.
    pub oci_version: String,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The root file system's absolute path on the host.
    pub rootfs: PathBuf,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// Who made it: a user name, or the number of a user without a name.
    pub owner: String,
    /// This boot; after another one nothing of it is left.
    pub boot_id: String,
    /// Below the root of every cgroup hierarchy.
    pub cgroup: PathBuf,
    /// The scope that its cgroup is, if systemd made it.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// Its first process. `None` while only the intent exists.
    pub init: Option<Identity>,
    /// `process` of config.json, which an exec starts from.
    pub process: Process,
    /// `linux.resources` of config.json, with what has been changed since.
    #[serde(default)]
    pub resources: Option<LinuxResources>,
    /// `annotations` of config.json.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    /// The kinds of the namespaces that it has joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<LinuxNamespaceType>,
    /// Whether its system calls are filtered: the compiled filter lies beside this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seccomp: bool,
    /// What an exec gets of `linux`.
    #[serde(default, skip_serializing_if = "Execution::is_empty")]
    pub execution: Execution,
    /// Those `hooks` of config.json that are called once it is made: poststart and poststop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
}

impl Record {
    /// The format of `state.json`. A record of another version is refused by name.
    pub const VERSION: u32 = 1;
}

/// `status` of the runtime-spec's state, and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its first process is gone.
    Stopped,
}

impl Status {
    /// The word that `runc list` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}
