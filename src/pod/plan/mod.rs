//! Manifest to pod plan: pure. Everything that can be decided without touching the kernel is decided here, and
//! `runp pod plan` prints it without privileges.

mod calls;
mod downward;
mod env;
mod mounts;
mod process;
mod render;
mod resources;
mod volumes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as k8s;
use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType, LinuxResources, Root, Spec,
};

use super::calls::CallPlan;
use super::images::{self, Image};
use super::lifecycle::{BackOffLimits, Kind, PodSpec};
use super::lint;
use super::manifest::Manifest;
use super::termination::TerminationPlan;
use super::volumes::payload::Payload;
use crate::container::{Options, Request, Stdio};
use crate::error::{Context as _, Error, Result};
use crate::spec;
use process::Process;

pub use env::{Environment, FileKey};
pub use render::{render_json, render_text};
pub use resources::{Qos, qos};

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
    /// What is valid and probably not meant.
    pub warnings: Vec<String>,
}

/// The cgroup of the pod of this name. `@` is in no container's id, so that it is never the cgroup of a container.
pub fn cgroup(pod: &str) -> String {
    format!("{}/pod@{pod}", crate::cgroup::HOME)
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
    /// `/runp/pod@<pod>`, the parent of pause's and every container's cgroup.
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
    /// Whether no container may write to it.
    pub read_only: bool,
    /// Whose group it is made.
    pub fs_group: Option<FsGroup>,
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
    /// It refers to what the manifest does not have: why, in the kubelet's words.
    Missing(String),
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
    /// What its variables are made of, if files of the pod's volumes are among them: these are read when it starts.
    /// In `spec` their values are described.
    pub late: Option<Environment>,
    /// Volumes that `spec.mounts` binds.
    pub volume_mounts: Vec<VolumeMountPlan>,
    /// Why it cannot be started (`CreateContainerConfigError`), in Kubernetes' words.
    pub config_error: Option<String>,
    /// Its probes and hooks.
    pub calls: CallPlan,
    /// Where it leaves its last words.
    pub termination: TerminationPlan,
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
    pub sub_path: Option<PathBuf>,
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
    /// The machine.
    pub node: Node,
    /// How long the back-off of its containers may get.
    pub back_off: BackOffLimits,
}

/// What a pod sees of the machine, so that the plan itself need not look.
#[derive(Debug, Clone)]
pub struct Node {
    /// The host name of a pod with `hostNetwork`, and `spec.nodeName`.
    pub hostname: String,
    /// Physical memory in bytes, the measure of a Burstable container's `oom_score_adj`.
    pub memory: u64,
    /// CPUs that may be used.
    pub cpus: u64,
    /// The size of the root file system in bytes.
    pub disk: u64,
    /// `status.hostIPs`: the addresses that face the network, or else the loopback's.
    pub addresses: Vec<IpAddr>,
}

impl Node {
    /// The machine that this runs on: uname(2), sysinfo(2), sched_getaffinity(2), statvfs(3), and its routes.
    pub fn this_machine() -> Self {
        let info = rustix::system::sysinfo();
        Self {
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            memory: info.totalram.saturating_mul(u64::from(info.mem_unit)),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            disk: rustix::fs::statvfs("/").map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize)),
            addresses: addresses(),
        }
    }
}

/// The addresses from which this machine would send to others, IPv4 first.
fn addresses() -> Vec<IpAddr> {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    // To connect a datagram socket sends nothing: the kernel looks for a route. The addresses are for documentation
    // only (RFC 5737, RFC 3849).
    let outside: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let found = outside.into_iter().filter_map(|(any, other)| {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(SocketAddr::new(other, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    let found: Vec<IpAddr> = found.collect();
    match found.is_empty() {
        true => vec![Ipv4Addr::LOCALHOST.into()],
        false => found,
    }
}

/// What every container's plan starts from: the default configuration of a container in a pod, as containerd's CRI
/// plugin has it, and three paths masked that tell of the host's hardware (GHSA-7ww5-4wqc-m92c).
const BASE: &str = include_str!("base.json");

/// Plans a pod.
///
/// # Errors
/// Every image without a root file system, every bundle that cannot be read, every container without a command and
/// every unknown capability, all at once.
pub fn plan(manifest: &Manifest, options: &PlanOptions) -> Result<PodPlan> {
    let pod = &manifest.pod;
    let default = k8s::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let sandbox = sandbox(&name, spec, &options.node);
    let context = Context {
        base: serde_json::from_str(BASE)
            .map_err(|e| Error::new(format!("read the built-in configuration: {e}")))?,
        manifest,
        options,
        spec,
        sandbox: &sandbox,
        volumes: &[],
    };
    let (volumes, mut errors) = context.volumes();
    let context = Context {
        volumes: &volumes,
        ..context
    };
    let mut containers = Vec::new();
    for (path, kind, container) in containers_of(spec) {
        match context.container(&path, kind, container) {
            Ok(planned) => containers.push(planned),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(images::unused(spec, &options.rootfs));
    Error::all(format!("plan pod {name:?}"), errors)?;

    let mut warnings = manifest.warnings.clone();
    warnings.extend(volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Missing(why) => Some(format!("the pod will wait in vain: {why}")),
        _ => None,
    }));
    warnings.extend(lint::lint(pod));
    Ok(PodPlan {
        uid: options.uid.clone(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        qos: qos(spec),
        lifecycle: calls::lifecycle(spec, options.back_off),
        name,
        sandbox,
        volumes,
        containers,
        warnings,
    })
}

/// Init containers, then apps, each with its path in the manifest.
fn containers_of(spec: &k8s::PodSpec) -> impl Iterator<Item = (String, Kind, &k8s::Container)> {
    let inits = spec.init_containers.iter().flatten().enumerate();
    let apps = spec.containers.iter().enumerate();
    let kind = |c: &k8s::Container| match c.restart_policy.as_deref() {
        Some("Always") => Kind::Sidecar,
        _ => Kind::Init,
    };
    inits
        .map(move |(i, c)| (format!("spec.initContainers[{i}]"), kind(c), c))
        .chain(apps.map(|(i, c)| (format!("spec.containers[{i}]"), Kind::App, c)))
}

fn sandbox(name: &str, spec: &k8s::PodSpec, node: &Node) -> SandboxPlan {
    let host = |flag: Option<bool>| match flag {
        Some(true) => Shared::Host,
        _ => Shared::Pod,
    };
    let network = host(spec.host_network);
    let named = spec.hostname.clone().filter(|name| !name.is_empty());
    SandboxPlan {
        hostname: match network {
            Shared::Host => node.hostname.clone(),
            _ => named.unwrap_or_else(|| short(name)),
        },
        network,
        ipc: host(spec.host_ipc),
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => Shared::Host,
            (_, Some(true)) => Shared::Pod,
            _ => Shared::Container,
        },
        cgroup: cgroup(name),
        resources: resources::pod(spec),
    }
}

/// The pod's name as a host name: a DNS label has at most 63 characters and does not end in a dash or dot.
fn short(name: &str) -> String {
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

struct Context<'a> {
    /// What a container starts from that has no bundle.
    base: Spec,
    manifest: &'a Manifest,
    options: &'a PlanOptions,
    spec: &'a k8s::PodSpec,
    sandbox: &'a SandboxPlan,
    volumes: &'a [VolumePlan],
}

impl Context<'_> {
    fn container(
        &self,
        path: &str,
        kind: Kind,
        container: &k8s::Container,
    ) -> Result<ContainerPlan> {
        let Image {
            bundle,
            root,
            config,
        } = images::resolve(
            path,
            container,
            &self.manifest.directory,
            &self.options.rootfs,
        )?;
        let from_bundle = config.is_some();
        let mut spec = match config {
            Some(spec) => spec,
            None => self.base.clone(),
        };
        let privileged = container
            .security_context
            .as_ref()
            .is_some_and(|c| c.privileged == Some(true));

        self.root(&mut spec, container, root);
        let Process {
            mut config_error,
            late,
        } = self.process(&mut spec, path, container, from_bundle)?;
        let reads_files = late.is_some();
        let mut expressions = container.volume_mounts.iter().flatten();
        if reads_files
            && expressions.any(|m| m.sub_path_expr.as_ref().is_some_and(|e| !e.is_empty()))
        {
            return Err(Error::new(format!(
                "{path}: subPathExpr in a container with fileKeyRef: not supported yet"
            )));
        }
        let volume_mounts = mounts::plan(self, &mut spec, container, privileged);
        let volume_mounts = volume_mounts.unwrap_or_else(|why| {
            config_error.get_or_insert(why);
            Vec::new()
        });
        self.linux(&mut spec, path, container, privileged)?;
        // The sandbox has set it, in the namespace that the container joins.
        spec.set_hostname(None).set_domainname(None);
        self.check(&spec, &bundle, container).context(|| path)?;
        Ok(ContainerPlan {
            name: container.name.clone(),
            kind,
            bundle,
            spec,
            late,
            volume_mounts,
            config_error,
            calls: calls::calls(container),
            termination: calls::termination(container),
        })
    }

    /// What the container floor will say to the configuration, it says now: a bundle may ask for what is not done.
    fn check(&self, spec: &Spec, bundle: &Path, container: &k8s::Container) -> Result<()> {
        let pod = self.manifest.pod.metadata.name.as_deref();
        let id = format!("{}.{}", pod.unwrap_or_default(), container.name).parse()?;
        let request = Request {
            id: &id,
            bundle: bundle.to_owned(),
            spec,
            root: None,
            sources: BTreeMap::new(),
            stdio: Stdio::Inherit,
            options: Options::default(),
        };
        spec::plan(&request).map(drop)
    }

    fn root(&self, spec: &mut Spec, container: &k8s::Container, path: PathBuf) {
        let context = container.security_context.as_ref();
        // Not oci-spec's default of either: that is a read-only root.
        let own = spec.root().as_ref().and_then(|root| root.readonly());
        let readonly = context.and_then(|c| c.read_only_root_filesystem).or(own);
        let mut root = Root::default();
        root.set_path(path)
            .set_readonly(Some(readonly == Some(true)));
        spec.set_root(Some(root));
    }

    fn linux(
        &self,
        spec: &mut Spec,
        path: &str,
        container: &k8s::Container,
        privileged: bool,
    ) -> Result<()> {
        let namespaces = self.namespaces();
        let Some(linux) = spec.linux_mut() else {
            return Err(Error::new(format!(
                "{path}: the bundle's config.json has no linux section"
            )));
        };
        let user = |ns: &LinuxNamespace| ns.typ() == LinuxNamespaceType::User;
        if linux.namespaces().iter().flatten().any(user) {
            return Err(Error::new(format!(
                "{path}: the bundle's config.json asks for a user namespace: not supported in a pod yet"
            )));
        }
        linux
            .set_namespaces(Some(namespaces))
            .set_cgroups_path(Some(
                format!("{}/{}", self.sandbox.cgroup, container.name).into(),
            ));
        let mut limits = linux.resources().clone().unwrap_or_default();
        resources::apply(&mut limits, container);
        if privileged {
            let mut every_device = LinuxDeviceCgroup::default();
            every_device
                .set_allow(true)
                .set_access(Some("rwm".to_owned()));
            limits.set_devices(Some(vec![every_device]));
            linux.set_masked_paths(None).set_readonly_paths(None);
            linux.set_devices(Some(mounts::host_devices()));
        }
        linux.set_resources(Some(limits));
        Ok(())
    }

    /// Every container has a mount and a cgroup namespace of its own; the rest is the sandbox's, or the host's by
    /// leaving it out.
    fn namespaces(&self) -> Vec<LinuxNamespace> {
        use LinuxNamespaceType as Type;
        let sandbox = self.sandbox;
        let table = [
            (Type::Mount, Shared::Container, ""),
            (Type::Cgroup, Shared::Container, ""),
            (Type::Pid, sandbox.pid, "pid"),
            (Type::Network, sandbox.network, "net"),
            (Type::Ipc, sandbox.ipc, "ipc"),
            (Type::Uts, sandbox.network, "uts"),
        ];
        let planned = table.into_iter().filter_map(|(kind, shared, file)| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            match shared {
                Shared::Host => return None,
                Shared::Container => namespace.set_path(None),
                Shared::Pod => namespace.set_path(Some(format!("/proc/{PAUSE}/ns/{file}").into())),
            };
            Some(namespace)
        });
        planned.collect()
    }
}

#[cfg(test)]
mod tests;
