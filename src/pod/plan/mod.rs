//! Manifest to pod plan: pure. Everything that can be decided without touching the kernel is decided here, and
//! `runp pod plan` prints it without privileges.

mod beyond;
mod calls;
mod downward;
mod env;
mod host;
mod mounts;
mod node;
mod planned;
mod process;
mod render;
mod resources;
mod sandbox;
mod seccomp;
mod selinux;
mod users;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as k8s;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType, Root, Spec};

use super::images::{self, Image};
use super::lifecycle::{Kind, PodSpec};
use super::lint;
use super::manifest::Manifest;
use super::network::{Attachment, Network};
use super::validate::names;
use crate::container::{Options, Request, Stdio};
use crate::error::{Context as _, Error, Result};
use crate::spec;
use process::Process;

pub use downward::addresses;
pub use env::{Environment, FileKey};
pub use mounts::SubPath;
pub use node::Node;
pub use planned::{
    ContainerPlan, FsGroup, HostPathKind, IDS, Input, PAUSE, PlanOptions, PodPlan, Propagation,
    SandboxPlan, Shared, VOLUMES, VolumeMountPlan, VolumePlan, VolumeSource,
};
pub use render::{config, render_json, render_text};
pub use resources::{Qos, qos, resize};

/// The cgroup of the pod of this name. `@` is in no container's id, so that it is never the cgroup of a container.
pub fn cgroup(pod: &str) -> String {
    format!("{}/pod@{pod}", crate::cgroup::HOME)
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
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let names = host::names(&name, namespace, spec, &options.node)?;
    let sandbox = sandbox::plan(&name, spec, &names, &manifest.network, options)?;
    let context = Context {
        base: serde_json::from_str(BASE)
            .map_err(|e| Error::new(format!("read the built-in configuration: {e}")))?,
        manifest,
        options,
        spec,
        names: &names,
        sandbox: &sandbox,
        volumes: &[],
        texts: users::Texts::default(),
    };
    let (mut volumes, mut errors) = context.volumes();
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
    let lifecycle = calls::lifecycle(pod, options);
    let lifecycle = lifecycle.unwrap_or_else(|e| {
        errors.push(e);
        PodSpec::default()
    });
    Error::all(format!("plan pod {name:?}"), errors)?;

    let mut warnings = manifest.warnings.clone();
    let fields = selinux::fields(spec);
    if !fields.is_empty() && options.node.selinux.is_none() {
        warnings.push(format!(
            "SELinux is off on this machine, or its policy has nothing for containers: no effect: {}",
            fields.join(", ")
        ));
    }
    let made_here = volumes.iter_mut().enumerate();
    for (index, volume) in made_here.filter(|(_, volume)| volume.source.is_made_here()) {
        let mut containers = containers.iter();
        let label = containers.find_map(|container| {
            let mut mounts = container.volume_mounts.iter();
            let mounts_it = mounts.any(|mount| mount.volume == index);
            container.mount_label().filter(|_| mounts_it)
        });
        volume.label = label.map(str::to_owned);
    }
    warnings.extend(volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Missing(why) => Some(format!("the pod will wait in vain: {why}")),
        _ => None,
    }));
    warnings.extend(lint::lint(pod));
    Ok(PodPlan {
        uid: options.uid.clone(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        qos: qos(spec),
        disk_limit: resources::pod_disk_limit(spec),
        lifecycle,
        name,
        sandbox,
        volumes,
        containers,
        warnings,
    })
}

/// Plans an ephemeral container of a pod that has been planned: it has the pod's namespaces and, where each container has
/// processes of its own, those of `target`, the first process of one of them.
///
/// # Errors
/// As [`plan`].
pub fn ephemeral(
    manifest: &Manifest,
    options: &PlanOptions,
    pod: &PodPlan,
    container: &k8s::Container,
    target: Option<i32>,
) -> Result<ContainerPlan> {
    let wrong = names::dns_label(&container.name).into_iter();
    let wrong = wrong.map(|why| Error::new(format!("name {:?}: {why}", container.name)));
    Error::all("the ephemeral container", wrong.collect())?;
    let default = k8s::PodSpec::default();
    let spec = manifest.pod.spec.as_ref().unwrap_or(&default);
    let names = host::names(&pod.name, &pod.namespace, spec, &options.node)?;
    let context = Context {
        base: serde_json::from_str(BASE)
            .map_err(|e| Error::new(format!("read the built-in configuration: {e}")))?,
        manifest,
        options,
        spec,
        names: &names,
        sandbox: &pod.sandbox,
        volumes: &pod.volumes,
        texts: users::Texts::default(),
    };
    let mut planned = context.container("the ephemeral container", Kind::App, container)?;
    let target = target.filter(|_| pod.sandbox.pid == Shared::Container);
    let linux = planned.spec.linux_mut().as_mut();
    let namespaces = linux.and_then(|linux| linux.namespaces_mut().as_mut());
    for namespace in namespaces.into_iter().flatten() {
        if let Some(target) = target.filter(|_| namespace.typ() == LinuxNamespaceType::Pid) {
            namespace.set_path(Some(format!("/proc/{target}/ns/pid").into()));
        }
    }
    Ok(planned)
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

struct Context<'a> {
    /// What a container starts from that has no bundle.
    base: Spec,
    manifest: &'a Manifest,
    options: &'a PlanOptions,
    spec: &'a k8s::PodSpec,
    names: &'a host::Names,
    sandbox: &'a SandboxPlan,
    volumes: &'a [VolumePlan],
    texts: users::Texts,
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

        let image = process::Image {
            root: &root,
            from_bundle,
        };
        let Process {
            mut config_error,
            late,
        } = self.process(&mut spec, path, container, &image)?;
        self.root(&mut spec, container, root);
        let volume_mounts = mounts::plan(self, &mut spec, container, privileged, late.is_some());
        let volume_mounts = volume_mounts.unwrap_or_else(|why| {
            config_error.get_or_insert(why);
            Vec::new()
        });
        self.linux(&mut spec, path, container, privileged)?;
        self.selinux(&mut spec, path, container, privileged)?;
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
            input: Input::of(container),
            calls: calls::calls(container, self.own_address()),
            termination: calls::termination(container),
            disk_limit: resources::disk_limit(container),
        })
    }

    /// `seLinuxOptions`. The privileged are not confined.
    fn selinux(
        &self,
        spec: &mut Spec,
        path: &str,
        container: &k8s::Container,
        privileged: bool,
    ) -> Result<()> {
        let Some(policy) = &self.options.node.selinux else {
            return Ok(());
        };
        let contexts = selinux::contexts(policy, &self.options.uid, self.spec, path, container)?;
        let Some(contexts) = contexts else {
            return Ok(());
        };
        if let Some(process) = spec.process_mut() {
            process.set_selinux_label((!privileged).then_some(contexts.process));
        }
        if let Some(linux) = spec.linux_mut() {
            linux.set_mount_label(Some(contexts.file));
        }
        Ok(())
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
        let process = spec.process().as_ref();
        let capabilities = process.and_then(|p| p.capabilities().as_ref()?.bounding().clone());
        let capabilities = capabilities.unwrap_or_default();
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
            linux.set_devices(Some(mounts::host_devices()));
        }
        let context = container.security_context.as_ref();
        let unmasked = context.is_some_and(|c| c.proc_mount.as_deref() == Some("Unmasked"));
        if privileged || unmasked {
            linux.set_masked_paths(None).set_readonly_paths(None);
        }
        let own = context.and_then(|c| c.seccomp_profile.as_ref());
        let pod = self.spec.security_context.as_ref();
        let profile = own.or(pod.and_then(|c| c.seccomp_profile.as_ref()));
        if privileged {
            linux.set_seccomp(None);
        } else if let Some(profile) = profile {
            let filter = seccomp::filter(profile, &capabilities, &self.manifest.directory);
            linux.set_seccomp(filter.context(|| path)?);
        }
        linux.set_resources(Some(limits));
        Ok(())
    }

    /// Every container has a mount and a cgroup namespace of its own; the rest is the sandbox's, or the host's by
    /// leaving it out.
    fn namespaces(&self) -> Vec<LinuxNamespace> {
        use LinuxNamespaceType as Type;
        let sandbox = self.sandbox;
        let users = match sandbox.users {
            Some(_) => Shared::Pod,
            None => Shared::Host,
        };
        let table = [
            (Type::Mount, Shared::Container, ""),
            (Type::Cgroup, Shared::Container, ""),
            (Type::Pid, sandbox.pid, "pid"),
            (Type::Network, sandbox.network, "net"),
            (Type::Ipc, sandbox.ipc, "ipc"),
            (Type::Uts, sandbox.network, "uts"),
            (Type::User, users, "user"),
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
