//! Manifest to pod plan: pure. Everything that can be decided without touching the kernel is decided here, and
//! `runp pod plan` prints it without privileges.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::{LinuxResources, Spec};

use super::lifecycle::{Kind, PodSpec};

/// Everything that will be done for a pod.
#[derive(Debug, Clone)]
pub struct PodPlan {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`, given by the caller so that the plan stays pure.
    pub uid: String,
    /// The manifest with Kubernetes' defaults filled in.
    pub manifest: Pod,
    /// The namespaces that pause holds, and the pod's cgroup.
    pub sandbox: SandboxPlan,
    /// In the manifest's order.
    pub volumes: Vec<VolumePlan>,
    /// Init containers in order, then apps: the same order as [`PodSpec::containers`].
    pub containers: Vec<ContainerPlan>,
    /// What the lifecycle needs.
    pub lifecycle: PodSpec,
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
    /// `/runp/<pod>`, the parent of pause's and every container's cgroup.
    pub cgroup: String,
    /// The pod's effective limits.
    pub resources: LinuxResources,
}

/// A volume of the pod.
#[derive(Debug, Clone)]
pub struct VolumePlan {
    /// Unique in the pod.
    pub name: String,
    /// What it is made of.
    pub source: VolumeSource,
}

/// What a volume is made of.
#[derive(Debug, Clone)]
pub enum VolumeSource {
    /// Made empty, mode 0777, once per pod; gone with it.
    EmptyDir {
        /// `medium: Memory`: a tmpfs.
        memory: bool,
        /// In bytes.
        size_limit: Option<u64>,
    },
    /// A path of the host.
    HostPath {
        /// Absolute.
        path: PathBuf,
        /// What must be there, or is made.
        kind: HostPathKind,
    },
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
    /// Volumes that `spec.mounts` binds.
    pub volume_mounts: Vec<VolumeMountPlan>,
}

/// Stands for the pid of the pause process in the namespace paths of a planned configuration.
pub const PAUSE: &str = "<pause>";

/// One of a container's `volumeMounts`.
#[derive(Debug, Clone)]
pub struct VolumeMountPlan {
    /// Index into `spec.mounts`.
    pub mount: usize,
    /// Index into [`PodPlan::volumes`].
    pub volume: usize,
    /// Relative, without `..`; resolved inside the volume, never through a symbolic link, made if missing.
    pub sub_path: Option<PathBuf>,
}
