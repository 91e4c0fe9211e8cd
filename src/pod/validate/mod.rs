//! Kubernetes' validation and its messages.
//!
//! The rules and the texts are those of `pkg/apis/core/validation` of Kubernetes. Each rule that is broken is told, in
//! the order in which the API server tells them. Only a path may differ: it is always that of the manifest's field.

mod calls;
mod containers;
mod env;
mod field;
mod host;
pub(in crate::pod) mod names;
mod resources;
mod security;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use field::{Errors, Path};

/// User and group ids.
const IDS: std::ops::RangeInclusive<i64> = 0..=2_147_483_647;

/// Checks a pod that has its defaults. Gives every rule that it breaks, each beginning with the field's path:
/// `spec.containers: Required value`.
pub fn validate(pod: &Pod) -> Vec<String> {
    let mut errors = Errors::default();
    metadata(&mut errors, &pod.metadata);
    if let Some(spec) = &pod.spec {
        pod_spec(&mut errors, spec);
    }
    errors.0
}

fn metadata(errors: &mut Errors, metadata: &ObjectMeta) {
    let path = Path::new("metadata");
    match metadata.name.as_deref() {
        None | Some("") => errors.required(&path.child("name"), "name or generateName is required"),
        Some(name) => errors.each(&path.child("name"), name, names::dns_subdomain(name)),
    }
    if let Some(namespace) = &metadata.namespace {
        errors.each(
            &path.child("namespace"),
            namespace,
            names::dns_label(namespace),
        );
    }
    let labels = path.child("labels");
    for (key, value) in metadata.labels.iter().flatten() {
        errors.each(&labels, key, names::qualified(key));
        errors.each(&labels, value, names::label_value(value));
    }
    let annotations = path.child("annotations");
    for key in metadata.annotations.iter().flat_map(BTreeMap::keys) {
        errors.each(
            &annotations,
            key,
            names::qualified(&key.to_ascii_lowercase()),
        );
    }
}

fn pod_spec(errors: &mut Errors, spec: &PodSpec) {
    let path = Path::new("spec");
    let volumes = volumes::validate(errors, &path.child("volumes"), spec);
    containers::validate(errors, &path, spec, &volumes);
    if spec.ephemeral_containers.iter().flatten().next().is_some() {
        errors.forbidden(
            &path.child("ephemeralContainers"),
            "cannot be set on create",
        );
    }
    errors.one_of(
        &path.child("restartPolicy"),
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            &true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    let shared = [
        ("hostIPC", spec.host_ipc),
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
    ];
    if spec.host_users == Some(false) {
        for (field, _) in shared.into_iter().filter(|(_, flag)| *flag == Some(true)) {
            errors.forbidden(&path.child(field), "when `hostUsers` is false");
        }
    }
    host::validate(errors, &path, spec);
    resources::pod(errors, &path.child("resources"), spec);
    if let Some(os) = &spec.os {
        errors.one_of(&path.child("os").child("name"), Some(&os.name), &["linux"]);
    }
    if let Some(grace) = spec.termination_grace_period_seconds.filter(|g| *g < 0) {
        errors.invalid(
            &path.child("terminationGracePeriodSeconds"),
            &grace,
            "must be greater than or equal to 0",
        );
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let path = path.child("activeDeadlineSeconds");
        errors.within(&path, seconds, 1..=i64::from(i32::MAX));
    }
    if let Some(context) = &spec.security_context {
        security::pod(errors, &path.child("securityContext"), context);
    }
}

#[cfg(test)]
mod tests;
