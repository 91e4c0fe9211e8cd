//! The container plan: everything that can be decided about a container before anything exists.
//!
//! What acts on it has nothing left to decide: no `Option` that has a default, typed flags, absolute paths, C
//! strings ready for the kernel.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seccomp::Seccomp;
use crate::cgroup;
use crate::sys::scheduling::{Attributes as SchedulerAttributes, MemoryPolicy};

/// A validated container.
#[derive(Debug)]
pub struct Plan {
    /// Which namespaces to make, join or keep.
    pub namespaces: Namespaces,
    /// The root file system.
    pub root: Root,
    /// In the order of config.json.
    pub mounts: Vec<Mount>,
    /// The default devices of the runtime-spec, then `linux.devices`; none if `/dev` is a bind mount.
    pub devices: Vec<Device>,
    /// Absolute paths in the container, hidden.
    pub masked_paths: Vec<PathBuf>,
    /// Absolute paths in the container, made read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// `hostname`, only with a UTS namespace, new or joined.
    pub hostname: Option<String>,
    /// `domainname`, only with a UTS namespace, new or joined.
    pub domainname: Option<String>,
    /// `linux.netDevices`, in the order of their names.
    pub net_devices: Vec<NetDevice>,
    /// Keys as paths below `/proc/sys` (`net/ipv4/ip_forward`), checked to belong to a namespace of the container. One
    /// that it joins may still be the host's: that shows only when it is opened.
    pub sysctl: Vec<(String, String)>,
    /// The cgroup and its limits.
    pub cgroup: cgroup::Plan,
    /// The program and its credentials.
    pub process: Process,
    /// Which system calls it may make, and every program that is executed in the container later.
    pub seccomp: Option<Seccomp>,
    /// Programs of the caller at points of the container's life.
    pub hooks: Hooks,
    /// What holds for every process of the container.
    pub execution: Execution,
    /// Whether mounts have an SELinux context: a parameter of theirs.
    pub mount_label: bool,
}

impl Plan {
    /// Whether the first process can do nothing before its parent has done something for it: its ids, systemd's scope around
    /// it, or network interfaces.
    pub fn waits_to_begin(&self) -> bool {
        self.namespaces.user != Namespace::Inherit
            || self.cgroup.scope.is_some()
            || !self.net_devices.is_empty()
    }
}

/// The hooks of runtime-spec, config.md, in their order.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the names of config.json
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Whether any is called while the container's root is mounted and not entered yet.
    pub fn see_the_root(&self) -> bool {
        let lists = [&self.prestart, &self.create_runtime, &self.create_container];
        lists.iter().any(|list| !list.is_empty())
    }
}

/// A program that is executed with the container's state on its standard input.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Absolute, where the hook is executed.
    pub path: CString,
    /// Never empty.
    pub args: Vec<CString>,
    /// Nothing else is in its environment.
    pub env: Vec<CString>,
    /// It is killed if it takes longer.
    pub timeout: Option<Duration>,
}

/// What happens with one kind of namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// The caller's is kept.
    Inherit,
    /// A new one.
    New,
    /// The one that this file is: an nsfs path, opened before the clone.
    Join(PathBuf),
}

/// namespaces(7), all eight.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // their standard names
pub struct Namespaces {
    pub mount: Namespace,
    pub pid: Namespace,
    pub network: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub user: Namespace,
    pub cgroup: Namespace,
    pub time: Namespace,
    /// For a new user namespace: lines of `/proc/<pid>/uid_map`, 0 among them.
    pub uid_map: Vec<IdMap>,
    /// For a new user namespace: lines of `/proc/<pid>/gid_map`, 0 among them.
    pub gid_map: Vec<IdMap>,
    /// For a new time namespace: `(clock, seconds, nanoseconds)` of `timens_offsets`, clock `monotonic` or `boottime`.
    pub time_offsets: Vec<(&'static str, i64, u32)>,
}

/// A line of an id map, user_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct IdMap {
    pub container_id: u32,
    pub host_id: u32,
    pub size: u32,
}

/// The root file system.
#[derive(Debug, Clone)]
pub struct Root {
    /// Absolute, on the host.
    pub path: PathBuf,
    /// `root.readonly`.
    pub readonly: bool,
    /// `linux.rootfsPropagation`: slave unless it says otherwise.
    pub propagation: Propagation,
    /// Whether it holds for all mounts below the root too (`rshared`, `runbindable`).
    pub recursive_propagation: bool,
    /// Entered by chroot(2) instead of pivot_root(2): `--no-pivot`.
    pub no_pivot: bool,
}

/// mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

/// One entry of `mounts`.
#[derive(Debug, Clone)]
pub struct Mount {
    /// In the container, absolute, resolved inside its root when it is mounted; what it resolves to must pass
    /// [`over_proc`](super::over_proc) again.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Attributes of this mount: `MOUNT_ATTR_*` bits of mount_setattr(2) to set and to clear.
    pub attributes: Attributes,
    /// The same for it and all mounts below (`rro`, `rnosuid`, ...).
    pub recursive_attributes: Attributes,
    /// Applied after it is mounted, with whether to apply it to all mounts below too.
    pub propagation: Vec<(Propagation, bool)>,
    /// `idmap`, `ridmap`: whose ids the files show; for bind mounts only.
    pub id_map: Option<MountIdMap>,
    /// `tmpcopyup`: a tmpfs begins with what the image has at its destination.
    pub copy_up: bool,
}

/// An id-mapped mount, mount_setattr(2) `MOUNT_ATTR_IDMAP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIdMap {
    /// From the ids in the file system (`container_id`) to those of the host (`host_id`).
    pub ids: MountIds,
    /// `ridmap`: all mounts below too.
    pub recursive: bool,
}

/// A user namespace whose map an id-mapped mount has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MountIds {
    /// A new one with this map.
    Maps { uid: Vec<IdMap>, gid: Vec<IdMap> },
    /// The one that the container joins.
    Namespace(PathBuf),
}

/// `MOUNT_ATTR_*` bits to set and to clear; the clear bits are applied first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
}

impl Mount {
    /// Whether it binds the host's `/dev`, which has its devices: nothing must be made in it.
    pub fn binds_dev(&self) -> bool {
        self.destination.as_path() == Path::new("/dev")
            && matches!(self.kind, MountKind::Bind { .. })
    }
}

/// What a mount is made of.
#[derive(Debug, Clone)]
pub enum MountKind {
    /// A file system of its own.
    FileSystem {
        /// `proc`, `tmpfs`, ...
        fstype: CString,
        /// As shown in mountinfo, or what the file system takes.
        source: Option<CString>,
        /// For fsconfig(2): `key` or `key=value`, in order. Read-only and the like of the superblock are in here too.
        parameters: Vec<(CString, Option<CString>)>,
    },
    /// A file or directory of the host.
    Bind {
        /// Which.
        source: BindSource,
        /// `rbind`: with all mounts below.
        recursive: bool,
    },
    /// The container's view of its cgroups: v2, or a tmpfs with one directory per v1 hierarchy.
    Cgroup,
    /// `remount`: what is mounted at the destination already gets other options.
    Remount {
        /// As for [`Self::FileSystem`]; none for a bind mount, whose file system has other users.
        parameters: Vec<(CString, Option<CString>)>,
    },
}

/// Where a bind mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindSource {
    /// Absolute, on the host.
    Path(PathBuf),
    /// A detached mount, held by the parent: the child inherits its descriptor. A descriptor of an attached one would be
    /// of no use, because a mount namespace cannot copy another one's mounts.
    Mount(RawFd),
}

/// An interface of the host that is moved into the container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// On the host.
    pub name: String,
    /// In the container.
    pub new_name: String,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Absolute, in the container.
    pub path: PathBuf,
    /// Type and number.
    pub node: DeviceNode,
    /// Permission bits.
    pub mode: u32,
    /// Owner in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
}

/// mknod(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DeviceNode {
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// The program and its credentials: of the container's first process, or of an exec.
#[derive(Debug, Clone)]
pub struct Process {
    /// Wants a terminal.
    pub terminal: bool,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// Never empty.
    pub args: Vec<CString>,
    /// `NAME=value`, each name once.
    pub env: Vec<CString>,
    /// Absolute, in the container.
    pub cwd: CString,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups; always set, also when empty (CVE-2022-2995).
    pub additional_gids: Vec<u32>,
    /// umask(2); 0022 unless asked for.
    pub umask: u32,
    /// As bit sets.
    pub capabilities: Capabilities,
    /// setrlimit(2): `RLIMIT_*`, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// `/proc/<pid>/oom_score_adj`; `None` keeps the caller's.
    pub oom_score_adj: Option<i32>,
    /// Its share of the machine.
    pub scheduling: Scheduling,
    /// The AppArmor profile of the program.
    pub apparmor_profile: Option<CString>,
    /// The SELinux context of the program.
    pub selinux_label: Option<CString>,
}

/// Which processors a process has, and when. Nothing is changed that is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// sched_setattr(2).
    pub attributes: Option<SchedulerAttributes>,
    /// ioprio_set(2): class and level.
    pub io_priority: Option<(u8, u8)>,
    /// Of an exec.
    pub affinity: Affinity,
}

/// The processors of an exec, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Before it is in the container's cgroup.
    pub initial: Option<Vec<u32>>,
    /// When it is.
    pub last: Option<Vec<u32>>,
}

/// What holds for every process of the container, an exec too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// personality(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    /// set_mempolicy(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
}

impl Execution {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Process {
    /// Adds variables (`NAME=value`), each in the place of the one that has its name.
    pub fn add_env(&mut self, variables: &[CString]) {
        fn name(variable: &CString) -> Option<&[u8]> {
            variable.as_bytes().split(|&byte| byte == b'=').next()
        }
        for variable in variables {
            self.env.retain(|other| name(other) != name(variable));
            self.env.push(variable.clone());
        }
    }
}

/// capabilities(7): the five sets, bit n is capability n. Nothing is inherited unless asked for (CVE-2022-29162).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}
