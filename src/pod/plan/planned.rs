//! What a plan is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::{LinuxResources, Process, Spec};

use super::{Environment, Node, Qos, SubPath};
use crate::pod::calls::CallPlan;
use crate::pod::lifecycle::{BackOffLimits, Kind, PodSpec};
use crate::pod::network::{Attachment, Network};
use crate::pod::termination::TerminationPlan;
use crate::pod::volumes::payload::Payload;

/// Everything that will be done for a pod.
#[derive(Debug, Clone)]
pub struct PodPlan {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`, given by the caller so that the plan stays pure.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `status.qosClass`.
    pub qos: Qos,
    /// The namespaces that pause holds, and the pod's cgroup.
    pub sandbox: SandboxPlan,
    /// In the manifest's order.
    pub volumes: Vec<VolumePlan>,
    /// Init containers in order, then apps: the same order as [`PodSpec::containers`].
    pub containers: Vec<ContainerPlan>,
    /// What the lifecycle needs.
    pub lifecycle: PodSpec,
    /// What all its containers and `emptyDir`s together may write to the disk, in bytes.
    pub disk_limit: Option<u64>,
    /// What is valid and probably not meant.
    pub warnings: Vec<String>,
}

/// Whose namespace of one kind the pod's containers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// The host's.
    Host,
    /// One that pause holds for the pod.
    Pod,
    /// Each container its own.
    Container,
}

/// How many user and group ids a pod with `hostUsers: false` has.
pub const IDS: u32 = 65536;

/// The pause process and what it holds.
#[derive(Debug, Clone)]
pub struct SandboxPlan {
    /// UTS host name.
    pub hostname: String,
    /// `Pod`, or `Host` with `hostNetwork`. The UTS namespace goes with it.
    pub network: Shared,
    /// `Pod`, or `Host` with `hostIPC`.
    pub ipc: Shared,
    /// `Container`, `Pod` with `shareProcessNamespace`, `Host` with `hostPID`.
    pub pid: Shared,
    /// With `hostUsers: false`: the first of the [`IDS`] ids of the host that are the pod's own.
    pub users: Option<u32>,
    /// `/runp/pod@<pod>`, the parent of pause's and every container's cgroup.
    pub cgroup: String,
    /// The pod's effective limits.
    pub resources: LinuxResources,
    /// Paths below `/proc/sys` and what is written to them.
    pub sysctls: Vec<(String, String)>,
    /// What connects its network namespace.
    pub connection: Network,
}

/// A volume of the pod.
#[derive(Debug, Clone)]
pub struct VolumePlan {
    /// Unique in the pod.
    pub name: String,
    /// What it is made of.
    pub source: VolumeSource,
    /// Whether no container may write to it.
    pub read_only: bool,
    /// Whose group it is made.
    pub fs_group: Option<FsGroup>,
    /// The SELinux context of its files, if runp makes them and a container that mounts it has one.
    pub label: Option<String>,
}

/// `securityContext.fsGroup`, as it concerns one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsGroup {
    /// The group.
    pub gid: u32,
    /// Whether it may only read.
    pub read_only: bool,
    /// `fsGroupChangePolicy: OnRootMismatch`: nothing is changed if the root is as it should be.
    pub on_root_mismatch: bool,
}

/// What a volume is made of.
#[derive(Debug, Clone)]
pub enum VolumeSource {
    /// Made empty, once per pod; gone with it.
    EmptyDir {
        /// `medium: Memory`: a tmpfs.
        memory: bool,
        /// In bytes.
        size_limit: Option<u64>,
        /// Permission bits: 0777, and 1777 for the pod's `/dev/shm`.
        mode: u32,
    },
    /// A path of the host.
    HostPath {
        /// Absolute.
        path: PathBuf,
        /// What must be there, or is made.
        kind: HostPathKind,
    },
    /// Files that the manifest has: `configMap`, `secret`, `downwardAPI`, `projected`. Read-only for containers.
    Files {
        /// Kept off the disk: all but a `configMap`.
        memory: bool,
        /// What is in it.
        payload: Payload,
    },
    /// `persistentVolumeClaim`: a directory that outlives the pod.
    Claim {
        /// Absolute.
        path: PathBuf,
        /// Whether it is below the data root, and not where a PersistentVolume says.
        ours: bool,
    },
    /// The root file system of an image, read-only.
    Image {
        /// Absolute.
        root: PathBuf,
    },
    /// The files in `/etc` that all containers of the pod share, by name.
    Etc(BTreeMap<&'static str, String>),
    /// It refers to what the manifest does not have: why, in the kubelet's words.
    Missing(String),
}

impl VolumeSource {
    /// Whether it is made with the pod, and goes with it.
    pub fn is_the_pods(&self) -> bool {
        matches!(
            self,
            Self::EmptyDir { .. } | Self::Files { .. } | Self::Etc(_)
        )
    }

    /// Whether runp has made it. What else is mounted is the host's, which may need it as it is.
    pub fn is_made_here(&self) -> bool {
        self.is_the_pods() || matches!(self, Self::Claim { ours: true, .. })
    }
}

/// `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Kubernetes' own names
pub enum HostPathKind {
    Unchecked,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

impl PodPlan {
    /// Whether what a container mounts is the same whenever it is opened once the pod's volumes are made. Other containers can
    /// replace a part of a volume, and mount something in one.
    pub fn is_settled(&self, mount: &VolumeMountPlan) -> bool {
        match self.volumes[mount.volume].source {
            VolumeSource::Etc(_) => true,
            VolumeSource::EmptyDir { .. } => {
                mount.sub_path.is_none() && !self.is_mounted_in(mount.volume)
            }
            _ => false,
        }
    }

    /// Whether what a container mounts in a volume reaches the others.
    fn is_mounted_in(&self, volume: usize) -> bool {
        let mut mounts = self
            .containers
            .iter()
            .flat_map(|container| &container.volume_mounts);
        mounts
            .any(|mount| mount.volume == volume && mount.propagation == Propagation::Bidirectional)
    }
}

/// A container's standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It is at its end from the beginning.
    Empty,
    /// `stdin`: what `pod attach` sends, also several times.
    Open,
    /// `stdinOnce`: what `pod attach` sends once, to its end.
    Once,
}

impl Input {
    /// As its manifest says.
    pub fn of(container: &Container) -> Self {
        match (container.stdin, container.stdin_once) {
            (Some(true), Some(true)) => Self::Once,
            (Some(true), _) => Self::Open,
            _ => Self::Empty,
        }
    }
}

/// A container of the pod, ready to be started except for what only exists at run time.
#[derive(Debug, Clone)]
pub struct ContainerPlan {
    /// Unique in the pod.
    pub name: String,
    /// Init or app.
    pub kind: Kind,
    /// The directory that relative paths in `spec` start from: its bundle, or the manifest's directory.
    pub bundle: PathBuf,
    /// The exact configuration; namespaces to join are written `/proc/<pause>/ns/...` (see [`PAUSE`]).
    pub spec: Spec,
    /// What its variables are made of, if files of the pod's volumes are among them: these are read when it starts.
    /// In `spec` their values are described.
    pub late: Option<Environment>,
    /// Volumes that `spec.mounts` binds.
    pub volume_mounts: Vec<VolumeMountPlan>,
    /// Why it cannot be started (`CreateContainerConfigError`), in Kubernetes' words.
    pub config_error: Option<String>,
    /// Where what it reads comes from.
    pub input: Input,
    /// Its probes and hooks.
    pub calls: CallPlan,
    /// Where it leaves its last words.
    pub termination: TerminationPlan,
    /// `resources.limits[ephemeral-storage]`: how many bytes it may write to its root and its logs.
    pub disk_limit: Option<u64>,
}

impl ContainerPlan {
    /// The SELinux context of its files.
    pub fn mount_label(&self) -> Option<&str> {
        self.spec.linux().as_ref()?.mount_label().as_deref()
    }

    /// Whether it has a terminal for its standard input, output and error: `tty`.
    pub fn has_terminal(&self) -> bool {
        let process = self.spec.process().as_ref();
        process.and_then(Process::terminal).unwrap_or_default()
    }
}

/// Stands for the pid of the pause process in the namespace paths of a planned configuration.
pub const PAUSE: &str = "<pause>";

/// Stands for the directory of the pod's volumes in the mount sources of a planned configuration:
/// `<volumes>/NAME`, to be replaced by where the volume is (for a hostPath that is its path), with
/// [`VolumeMountPlan::sub_path`] resolved in it.
pub const VOLUMES: &str = "<volumes>";

/// One of a container's `volumeMounts`.
#[derive(Debug, Clone)]
pub struct VolumeMountPlan {
    /// Index into `spec.mounts`.
    pub mount: usize,
    /// Index into [`PodPlan::volumes`].
    pub volume: usize,
    /// Relative, without `..`; resolved inside the volume, never through a symbolic link that a container could have
    /// made; made if missing where containers may write.
    pub sub_path: Option<SubPath>,
    /// Which mounts below it both sides see.
    pub propagation: Propagation,
}

/// `mountPropagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Kubernetes' own names
pub enum Propagation {
    None,
    HostToContainer,
    Bidirectional,
}

/// What the plan depends on besides the manifest.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// `--rootfs IMAGE=DIR`: goes before `images/` beside the manifest.
    pub rootfs: Vec<(String, PathBuf)>,
    /// `metadata.uid` for this pod.
    pub uid: String,
    /// Where the directories of PersistentVolumeClaims are: `<namespace>/<name>`.
    pub claims: PathBuf,
    /// The first id of the host that a pod with `hostUsers: false` gets.
    pub ids: u32,
    /// The machine.
    pub node: Node,
    /// What its network has come to, if it has been made: a plan that is made before does not know the pod's addresses.
    pub attachment: Option<Attachment>,
    /// How long the back-off of its containers may get, whatever an annotation says.
    pub back_off: Option<BackOffLimits>,
    /// Apps are started one by one, as by the kubelet.
    pub kubelet_order: bool,
}
