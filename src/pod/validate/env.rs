//! `env` and `envFrom` of a container.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector,
    ResourceFieldSelector,
};

use super::field::{Errors, Path};
use super::names;
use crate::pod::quantity::Quantity;

/// What an environment variable can be taken from, as Kubernetes tells it.
const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn validate(
    errors: &mut Errors,
    path: &Path,
    container: &Container,
    volumes: &BTreeSet<&str>,
) {
    let list = container.env.as_deref().unwrap_or_default();
    env(errors, &path.child("env"), list, volumes);
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        env_from(errors, &path.child("envFrom").index(index), from);
    }
}

fn env(errors: &mut Errors, path: &Path, variables: &[EnvVar], volumes: &BTreeSet<&str>) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = path.child("name");
        match variable.name.as_str() {
            "" => errors.required(&name, ""),
            text => errors.each(&name, text, names::variable(text)),
        }
        let path = path.child("valueFrom");
        value_from(errors, &path, variable);
        if let Some(from) = &variable.value_from {
            keys(errors, &path, from);
            if let Some(file) = &from.file_key_ref {
                file_key(errors, &path.child("fileKeyRef"), file, volumes);
            }
        }
    }
}

fn value_from(errors: &mut Errors, path: &Path, variable: &EnvVar) {
    let Some(from) = &variable.value_from else {
        return;
    };
    let sources = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    match sources.into_iter().filter(|set| *set).count() {
        0 => errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ),
        _ if variable.value.as_deref().is_some_and(|v| !v.is_empty()) => errors.invalid(
            path,
            "",
            "may not be specified when `value` is not empty",
        ),
        1 => {}
        _ => errors.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        ),
    }
}

/// What a single source has to say.
fn keys(errors: &mut Errors, path: &Path, from: &EnvVarSource) {
    if let Some(selector) = &from.field_ref {
        field(errors, &path.child("fieldRef"), selector, &FIELD_PATHS);
    }
    if let Some(selector) = &from.resource_field_ref {
        resource_field(errors, &path.child("resourceFieldRef"), selector);
    }
    let config_map = from.config_map_key_ref.as_ref();
    let secret = from.secret_key_ref.as_ref();
    let selectors = [
        ("configMapKeyRef", config_map.map(|s| (&s.name, &s.key))),
        ("secretKeyRef", secret.map(|s| (&s.name, &s.key))),
    ];
    for (field, selector) in selectors {
        let Some((name, key)) = selector else {
            continue;
        };
        let path = path.child(field);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        match key.as_str() {
            "" => errors.required(&path.child("key"), ""),
            text => errors.each(&path.child("key"), text, names::config_key(text)),
        }
    }
}

/// A `fieldRef`: one of these, or a single label or annotation. Also that of a downwardAPI volume.
pub(super) fn field(
    errors: &mut Errors,
    path: &Path,
    selector: &ObjectFieldSelector,
    known: &[&str],
) {
    let path = path.child("fieldPath");
    let text = selector.field_path.as_str();
    let key = text
        .strip_suffix("']")
        .and_then(|t| t.split_once("['"))
        .filter(|(map, _)| ["metadata.labels", "metadata.annotations"].contains(map));
    match (text, key) {
        ("", _) => errors.required(&path, ""),
        (_, Some((_, key))) => errors.each(&path, key, names::qualified(key)),
        (_, None) => errors.one_of(&path, Some(text), known),
    }
}

fn file_key(errors: &mut Errors, path: &Path, file: &FileKeySelector, volumes: &BTreeSet<&str>) {
    let key = path.child("key");
    match file.key.as_str() {
        "" => errors.required(&key, ""),
        text => errors.each(&key, text, names::variable(text)),
    }
    let volume = path.child("volumeName");
    match file.volume_name.as_str() {
        "" => errors.required(&volume, ""),
        name if !volumes.contains(name) => errors.not_found(&volume, name),
        _ => {}
    }
    match file.path.as_str() {
        "" => errors.required(&path.child("path"), ""),
        text => super::volumes::relative(errors, &path.child("path"), text),
    }
}

fn env_from(errors: &mut Errors, path: &Path, from: &EnvFromSource) {
    if let Some(prefix) = from.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
        errors.each(&path.child("prefix"), prefix, names::variable(prefix));
    }
    let config_map = from.config_map_ref.as_ref().map(|s| &s.name);
    let secret = from.secret_ref.as_ref().map(|s| &s.name);
    for (field, name) in [("configMapRef", config_map), ("secretRef", secret)] {
        if name.is_some_and(String::is_empty) {
            errors.required(&path.child(field).child("name"), "");
        }
    }
    match (config_map, secret) {
        (None, None) => errors.invalid(
            path,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        ),
        (Some(_), Some(_)) => errors.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        ),
        _ => {}
    }
}

/// What a resource can be asked for, sorted as Kubernetes tells them.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Also that of a downwardAPI volume.
pub(super) fn resource_field(errors: &mut Errors, path: &Path, selector: &ResourceFieldSelector) {
    let text = selector.resource.as_str();
    let name = text.split_once('.').unwrap_or_default().1;
    match text {
        "" => errors.required(&path.child("resource"), ""),
        _ if name.starts_with("hugepages-") => {}
        _ => errors.one_of(&path.child("resource"), Some(text), &RESOURCES),
    }
    let Some(divisor) = &selector.divisor else {
        return;
    };
    let field = path.child("divisor");
    let units: &[&str] = match name {
        "cpu" => &["1m", "1"],
        _ => &[
            "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
        ],
    };
    match Quantity::parse(&divisor.0) {
        Err(why) => errors.invalid(&field, &divisor.0, why),
        Ok(Quantity::ZERO) => {}
        Ok(given) if units.iter().any(|unit| Quantity::parse(unit) == Ok(given)) => {}
        Ok(_) => errors.invalid(
            &field,
            &divisor.0,
            match name {
                "cpu" => {
                    "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
                }
                name => format!(
                    "only divisor's values {} are supported with the {name} resource",
                    units.join(", ")
                ),
            },
        ),
    }
}
