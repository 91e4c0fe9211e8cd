//! Kubernetes' defaults, filled in as the API server shows them.
//!
//! Source: `pkg/apis/core/v1/defaults.go` of Kubernetes.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, ObjectFieldSelector, Pod, PodSpec, Volume,
};

/// `metadata.namespace` when there is none.
pub(super) const NAMESPACE: &str = "default";

/// Fills in what the manifest leaves out.
pub(super) fn fill_in(pod: &mut Pod) {
    or_set(&mut pod.metadata.namespace, NAMESPACE);
    let spec = pod.spec.get_or_insert_default();
    or_set(&mut spec.restart_policy, "Always");
    or_set(&mut spec.dns_policy, "ClusterFirst");
    or_set(&mut spec.scheduler_name, "default-scheduler");
    or_set(&mut spec.service_account_name, "default");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    let host_network = spec.host_network == Some(true);
    for volume in spec.volumes.iter_mut().flatten() {
        fill_in_volume(volume);
    }
    for container in containers_mut(spec) {
        fill_in_container(container, host_network);
    }
}

fn containers_mut(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    let inits = spec.init_containers.iter_mut().flatten();
    inits.chain(spec.containers.iter_mut())
}

fn or_set(field: &mut Option<String>, value: &str) {
    field.get_or_insert_with(|| value.to_owned());
}

/// A volume of no type is an emptyDir.
fn fill_in_volume(volume: &mut Volume) {
    // What is written of it is its name only.
    let written = serde_json::to_value(&*volume).unwrap_or_default();
    if written.as_object().is_some_and(|fields| fields.len() <= 1) {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(host_path) = &mut volume.host_path {
        or_set(&mut host_path.type_, "");
    }
    let modes = [
        volume.config_map.as_mut().map(|s| &mut s.default_mode),
        volume.secret.as_mut().map(|s| &mut s.default_mode),
        volume.downward_api.as_mut().map(|s| &mut s.default_mode),
        volume.projected.as_mut().map(|s| &mut s.default_mode),
    ];
    for mode in modes.into_iter().flatten() {
        mode.get_or_insert(0o644);
    }
}

fn fill_in_container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    or_set(&mut container.image_pull_policy, pull_policy(image));
    or_set(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    or_set(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        or_set(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    let resources = container.resources.get_or_insert_default();
    for (name, limit) in resources.limits.iter().flatten() {
        resources
            .requests
            .get_or_insert_default()
            .entry(name.clone())
            .or_insert_with(|| limit.clone());
    }
    let fields = container.env.iter_mut().flatten();
    for field in fields.filter_map(|env| env.value_from.as_mut()?.field_ref.as_mut()) {
        let ObjectFieldSelector { api_version, .. } = field;
        or_set(api_version, "v1");
    }
}

/// `Always` for no tag or `:latest`, else (also with a digest) `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    // A colon before the last slash belongs to the registry's port.
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("localhost:5000/busybox", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("localhost:5000/busybox:1", "IfNotPresent"),
            ("busybox@sha256:00", "IfNotPresent"),
            ("busybox:latest@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
