//! `spec.initContainers` and `spec.containers`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

use super::field::{Errors, Path};
use super::{calls, env, names, resources, security, volumes};

/// What Kubernetes says of probes and hooks where they have no meaning.
const NO_SIDECAR: &str = "may not be set for init containers without restartPolicy=Always";

pub(super) fn validate(errors: &mut Errors, spec: &Path, pod: &PodSpec, volumes: &BTreeSet<&str>) {
    let mut names = BTreeSet::new();
    let grace = pod.termination_grace_period_seconds.unwrap_or(30);
    let path = spec.child("containers");
    if pod.containers.is_empty() {
        errors.required(&path, "");
    }
    for (index, container) in pod.containers.iter().enumerate() {
        let path = path.index(index);
        common(errors, &path, container, pod, volumes);
        calls::validate(errors, &path, container, grace);
        unique(errors, &path, container, &mut names);
    }
    host_network(errors, &path, pod, &pod.containers);

    let path = spec.child("initContainers");
    let inits = pod.init_containers.as_deref().unwrap_or_default();
    for (index, container) in inits.iter().enumerate() {
        let path = path.index(index);
        common(errors, &path, container, pod, volumes);
        unique(errors, &path, container, &mut names);
        if init(errors, &path, container) {
            calls::validate(errors, &path, container, grace);
        }
    }
    host_network(errors, &path, pod, inits);
}

fn unique<'a>(
    errors: &mut Errors,
    path: &Path,
    container: &'a Container,
    names: &mut BTreeSet<&'a str>,
) {
    let name = container.name.as_str();
    if !name.is_empty() && !names.insert(name) {
        errors.duplicate(&path.child("name"), name);
    }
}

/// An init container that is no sidecar runs to its end: nobody asks whether it is ready. `false` if somebody wants to.
fn init(errors: &mut Errors, path: &Path, container: &Container) -> bool {
    if container.restart_policy.as_deref() == Some("Always") {
        return true;
    }
    let fields = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (field, set) in fields {
        if set {
            errors.forbidden(&path.child(field), NO_SIDECAR);
        }
    }
    if container.resize_policy.iter().flatten().next().is_some() {
        let why = "must not be set for init containers";
        errors.forbidden(&path.child("resizePolicy"), why);
    }
    fields.iter().all(|(_, set)| !set)
}

fn common(
    errors: &mut Errors,
    path: &Path,
    container: &Container,
    pod: &PodSpec,
    volumes: &BTreeSet<&str>,
) {
    let name = path.child("name");
    match container.name.as_str() {
        "" => errors.required(&name, ""),
        text => errors.each(&name, text, names::dns_label(text)),
    }
    let image = path.child("image");
    match container.image.as_deref().unwrap_or_default() {
        "" => errors.required(&image, ""),
        text if text.trim() != text => {
            errors.invalid(&image, text, "must not have leading or trailing whitespace")
        }
        _ => {}
    }
    errors.one_of(
        &path.child("terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &["File", "FallbackToLogsOnError"],
    );
    let list = container.ports.as_deref().unwrap_or_default();
    ports(errors, &path.child("ports"), list);
    env::validate(errors, path, container, volumes);
    let list = container.volume_mounts.as_deref().unwrap_or_default();
    let privileged = container
        .security_context
        .as_ref()
        .is_some_and(|c| c.privileged == Some(true));
    let field = path.child("volumeMounts");
    volumes::mounts(errors, &field, list, volumes, privileged);
    errors.one_of(
        &path.child("imagePullPolicy"),
        container.image_pull_policy.as_deref(),
        &["Always", "IfNotPresent", "Never"],
    );
    resize_policy(errors, &path.child("resizePolicy"), container, pod);
    if let Some(requirements) = &container.resources {
        resources::container(errors, &path.child("resources"), requirements);
    }
    if let Some(context) = &container.security_context {
        security::container(errors, &path.child("securityContext"), context, pod);
    }
}

/// What is to happen to a container whose resources are changed.
fn resize_policy(errors: &mut Errors, path: &Path, container: &Container, pod: &PodSpec) {
    let mut names = BTreeSet::new();
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        let path = path.index(index);
        let (resource, restart) = (path.child("resourceName"), path.child("restartPolicy"));
        match policy.resource_name.as_str() {
            "" => errors.required(&resource, ""),
            name if !names.insert(name) => errors.duplicate(&path, name),
            name => errors.one_of(&resource, Some(name), &["cpu", "memory"]),
        }
        match policy.restart_policy.as_str() {
            "" => errors.required(&restart, ""),
            how => errors.one_of(&restart, Some(how), &["NotRequired", "RestartContainer"]),
        }
        let never = pod.restart_policy.as_deref() == Some("Never");
        if never && policy.restart_policy == "RestartContainer" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.invalid(&restart, &policy.restart_policy, why);
        }
    }
}

fn ports(errors: &mut Errors, path: &Path, ports: &[ContainerPort]) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let whys = names::port(name);
            if whys.is_empty() && !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.each(&path.child("name"), name, whys);
        }
        match port.container_port {
            0 => errors.required(&path.child("containerPort"), ""),
            number => errors.within(&path.child("containerPort"), number.into(), 1..=65535),
        }
        if let Some(number) = port.host_port.filter(|number| *number != 0) {
            errors.within(&path.child("hostPort"), number.into(), 1..=65535);
        }
        errors.one_of(
            &path.child("protocol"),
            port.protocol.as_deref(),
            &["SCTP", "TCP", "UDP"],
        );
    }
}

/// On the host's network a container's port is a port of the host.
fn host_network(errors: &mut Errors, path: &Path, pod: &PodSpec, containers: &[Container]) {
    if pod.host_network != Some(true) {
        return;
    }
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index).child("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or(0);
            if host_port != port.container_port {
                errors.invalid(
                    &path.index(index).child("hostPort"),
                    &host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}
