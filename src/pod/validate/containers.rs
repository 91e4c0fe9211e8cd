//! `spec.initContainers` and `spec.containers`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, PodSpec, ResourceRequirements, SecurityContext,
};

use super::field::{Errors, Path};
use super::{IDS, calls, env, names, volumes};
use crate::pod::quantity::Quantity;

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
        common(errors, &path, container, volumes);
        calls::validate(errors, &path, container, grace);
        unique(errors, &path, container, &mut names);
    }
    host_network(errors, &path, pod, &pod.containers);

    let path = spec.child("initContainers");
    let inits = pod.init_containers.as_deref().unwrap_or_default();
    for (index, container) in inits.iter().enumerate() {
        let path = path.index(index);
        common(errors, &path, container, volumes);
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
    fields.iter().all(|(_, set)| !set)
}

fn common(errors: &mut Errors, path: &Path, container: &Container, volumes: &BTreeSet<&str>) {
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
    if let Some(requirements) = &container.resources {
        resources(errors, &path.child("resources"), requirements);
    }
    if let Some(context) = &container.security_context {
        security(errors, &path.child("securityContext"), context);
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

fn resources(errors: &mut Errors, path: &Path, resources: &ResourceRequirements) {
    for (field, quantities) in [
        ("limits", &resources.limits),
        ("requests", &resources.requests),
    ] {
        let path = path.child(field);
        for (name, quantity) in quantities.iter().flatten() {
            let path = path.key(name);
            // A native resource has no domain; a file descriptor or a disk of another's is not to be had.
            let native = ["cpu", "memory", "ephemeral-storage"];
            if !native.contains(&name.as_str())
                && !name.contains('/')
                && !name.starts_with("hugepages-")
            {
                errors.invalid(
                    &path,
                    name,
                    "must be a standard resource type or fully qualified",
                );
                errors.invalid(&path, name, "must be a standard resource for containers");
            }
            match Quantity::parse(&quantity.0) {
                Err(why) => errors.invalid(&path, &quantity.0, why),
                Ok(parsed) if parsed < Quantity::ZERO => {
                    errors.invalid(&path, &quantity.0, "must be greater than or equal to 0")
                }
                Ok(_) => {}
            }
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let Some(limit) = resources.limits.as_ref().and_then(|l| l.get(name)) else {
            continue;
        };
        if let (Ok(requested), Ok(limited)) =
            (Quantity::parse(&request.0), Quantity::parse(&limit.0))
            && requested > limited
        {
            errors.invalid(
                &path.child("requests"),
                &request.0,
                format_args!("must be less than or equal to {name} limit of {}", limit.0),
            );
        }
    }
}

fn security(errors: &mut Errors, path: &Path, context: &SecurityContext) {
    for (field, id) in [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ] {
        if let Some(id) = id {
            errors.within(&path.child(field), id, IDS);
        }
    }
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    let shown = serde_json::to_value(context).unwrap_or_default();
    if context.privileged == Some(true) {
        errors.invalid(
            path,
            &shown,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    let added = context
        .capabilities
        .iter()
        .flat_map(|c| c.add.iter().flatten());
    if added.into_iter().any(|name| name == "CAP_SYS_ADMIN") {
        errors.invalid(
            path,
            &shown,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        );
    }
}
