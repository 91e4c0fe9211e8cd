//! `spec.volumes`, and what a path in a pod may look like.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    PersistentVolumeClaimSpec, PodSpec, ProjectedVolumeSource, Volume, VolumeMount,
};

use super::field::{Errors, Path};
use super::names;
use crate::pod::quantity::Quantity;

/// `hostPath.type`, sorted as Kubernetes tells them.
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Gives the names that may be mounted: those of valid volumes.
pub(super) fn validate<'a>(
    errors: &mut Errors,
    path: &Path,
    spec: &'a PodSpec,
) -> BTreeSet<&'a str> {
    let mut valid = BTreeSet::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path.index(index);
        let before = errors.0.len();
        source(errors, &path, volume);
        let name = path.child("name");
        match volume.name.as_str() {
            "" => errors.required(&name, ""),
            text => errors.each(&name, text, names::dns_label(text)),
        }
        if valid.contains(volume.name.as_str()) {
            errors.duplicate(&name, &volume.name);
        }
        if errors.0.len() == before {
            valid.insert(volume.name.as_str());
        }
    }
    valid
}

fn source(errors: &mut Errors, path: &Path, volume: &Volume) {
    // Every type but the first one is one too many, whichever they are.
    let written = serde_json::to_value(volume).unwrap_or_default();
    let types = written
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys());
    for name in types.filter(|name| *name != "name").skip(1) {
        errors.forbidden(&path.child(name), "may not specify more than 1 volume type");
    }
    if let Some(empty_dir) = &volume.empty_dir {
        self::empty_dir(errors, &path.child("emptyDir"), empty_dir);
    }
    if let Some(host_path) = &volume.host_path {
        self::host_path(errors, &path.child("hostPath"), host_path);
    }
    if let Some(source) = &volume.config_map {
        let path = path.child("configMap");
        named(errors, &path.child("name"), &source.name);
        mode(errors, &path.child("defaultMode"), source.default_mode);
        items(errors, &path.child("items"), source.items.as_deref());
    }
    if let Some(source) = &volume.secret {
        let path = path.child("secret");
        let name = source.secret_name.as_deref().unwrap_or_default();
        named(errors, &path.child("secretName"), name);
        mode(errors, &path.child("defaultMode"), source.default_mode);
        items(errors, &path.child("items"), source.items.as_deref());
    }
    if let Some(source) = &volume.downward_api {
        let path = path.child("downwardAPI");
        mode(errors, &path.child("defaultMode"), source.default_mode);
        downward(errors, &path.child("items"), source.items.as_deref());
    }
    if let Some(source) = &volume.projected {
        projected(errors, &path.child("projected"), source);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let field = path.child("persistentVolumeClaim").child("claimName");
        named(errors, &field, &claim.claim_name);
    }
    if let Some(source) = &volume.ephemeral {
        let path = path.child("ephemeral").child("volumeClaimTemplate");
        match &source.volume_claim_template {
            None => errors.required(&path, ""),
            Some(template) => claim(errors, &path.child("spec"), &template.spec),
        }
    }
    if let Some(image) = &volume.image {
        let field = path.child("image").child("reference");
        named(
            errors,
            &field,
            image.reference.as_deref().unwrap_or_default(),
        );
        errors.one_of(
            &path.child("image").child("pullPolicy"),
            image.pull_policy.as_deref(),
            &["Always", "IfNotPresent", "Never"],
        );
    }
}

fn claim(errors: &mut Errors, path: &Path, spec: &PersistentVolumeClaimSpec) {
    if spec.access_modes.iter().flatten().next().is_none() {
        let why = "at least 1 access mode is required";
        errors.required(&path.child("accessModes"), why);
    }
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    if !requests.is_some_and(|requests| requests.contains_key("storage")) {
        errors.required(&path.child("resources").child("storage"), "");
    }
}

fn named(errors: &mut Errors, path: &Path, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
    }
}

fn mode(errors: &mut Errors, path: &Path, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(path, &mode, why);
    }
}

fn items(errors: &mut Errors, path: &Path, items: Option<&[KeyToPath]>) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        named(errors, &path.child("key"), &item.key);
        file(errors, &path.child("path"), &item.path);
        mode(errors, &path.child("mode"), item.mode);
    }
}

/// The path of a file that is made in a volume: `..data` and its like are not for others.
fn file(errors: &mut Errors, path: &Path, text: &str) {
    match text {
        "" => errors.required(path, ""),
        _ => relative(errors, path, text),
    }
    if text.starts_with("..") && !text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// What a file of the downward API can hold, besides single labels and annotations.
const DOWNWARD: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

fn downward(errors: &mut Errors, path: &Path, items: Option<&[DownwardAPIVolumeFile]>) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        file(errors, &path.child("path"), &item.path);
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(_), Some(_)) => errors.invalid(
                &path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (None, None) => {
                errors.required(&path, "one of fieldRef and resourceFieldRef is required")
            }
            (Some(field), None) => {
                let path = path.child("fieldRef");
                super::env::field(errors, &path, field, &DOWNWARD);
            }
            (None, Some(selector)) => {
                let path = path.child("resourceFieldRef");
                if selector.container_name.as_deref().is_none_or(str::is_empty) {
                    errors.required(&path.child("containerName"), "");
                }
                super::env::resource_field(errors, &path, selector);
            }
        }
        mode(errors, &path.child("mode"), item.mode);
    }
}

fn projected(errors: &mut Errors, path: &Path, projected: &ProjectedVolumeSource) {
    mode(errors, &path.child("defaultMode"), projected.default_mode);
    let mut paths = BTreeSet::new();
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let path = path.child("sources").index(index);
        let written = serde_json::to_value(source).unwrap_or_default();
        let types = written
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys());
        for name in types.skip(1) {
            errors.forbidden(&path.child(name), "may not specify more than 1 volume type");
        }
        let mut named_items = Vec::new();
        if let Some(source) = &source.config_map {
            let path = path.child("configMap");
            named(errors, &path.child("name"), &source.name);
            items(errors, &path.child("items"), source.items.as_deref());
            named_items.extend(source.items.iter().flatten().map(|item| &item.path));
        }
        if let Some(source) = &source.secret {
            let path = path.child("secret");
            named(errors, &path.child("name"), &source.name);
            items(errors, &path.child("items"), source.items.as_deref());
            named_items.extend(source.items.iter().flatten().map(|item| &item.path));
        }
        if let Some(source) = &source.downward_api {
            let path = path.child("downwardAPI").child("items");
            downward(errors, &path, source.items.as_deref());
            named_items.extend(source.items.iter().flatten().map(|item| &item.path));
        }
        for name in named_items {
            if !paths.insert(name.clone()) {
                errors.invalid(&path, name, "conflicting duplicate paths");
            }
        }
    }
}

fn empty_dir(errors: &mut Errors, path: &Path, empty_dir: &EmptyDirVolumeSource) {
    errors.one_of(
        &path.child("medium"),
        empty_dir.medium.as_deref(),
        &["", "Memory"],
    );
    if let Some(mode) = empty_dir.mode.filter(|mode| !(0..=0o1777).contains(mode)) {
        let why = "must be a number between 0 and 01777 (octal), both inclusive";
        errors.invalid(&path.child("mode"), &mode, why);
    }
    let Some(limit) = &empty_dir.size_limit else {
        return;
    };
    let path = path.child("sizeLimit");
    match Quantity::parse(&limit.0) {
        Err(why) => errors.invalid(&path, &limit.0, why),
        Ok(limit) if limit < Quantity::ZERO => {
            errors.forbidden(&path, "SizeLimit field must be a valid resource quantity")
        }
        Ok(_) => {}
    }
}

fn host_path(errors: &mut Errors, path: &Path, host_path: &HostPathVolumeSource) {
    let field = path.child("path");
    let text = host_path.path.as_str();
    if text.is_empty() {
        errors.required(&field, "");
    } else {
        no_backsteps(errors, &field, text);
        if !text.starts_with('/') {
            errors.invalid(&field, text, "must be an absolute path");
        }
    }
    errors.one_of(
        &path.child("type"),
        host_path.type_.as_deref(),
        &HOST_PATH_TYPES,
    );
}

/// A container's `volumeMounts`.
pub(super) fn mounts(
    errors: &mut Errors,
    path: &Path,
    mounts: &[VolumeMount],
    volumes: &BTreeSet<&str>,
    privileged: bool,
) {
    let mut mount_points = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.index(index);
        let name = path.child("name");
        if mount.name.is_empty() {
            errors.required(&name, "");
        }
        if !volumes.contains(mount.name.as_str()) {
            errors.not_found(&name, &mount.name);
        }
        let mount_path = path.child("mountPath");
        if mount.mount_path.is_empty() {
            errors.required(&mount_path, "");
        }
        if !mount_points.insert(mount.mount_path.as_str()) {
            errors.invalid(&mount_path, &mount.mount_path, "must be unique");
        }
        if let Some(sub_path) = mount.sub_path.as_deref().filter(|p| !p.is_empty()) {
            relative(errors, &path.child("subPath"), sub_path);
        }
        if let Some(text) = mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()) {
            let path = path.child("subPathExpr");
            if mount.sub_path.as_deref().is_some_and(|p| !p.is_empty()) {
                errors.invalid(
                    &path,
                    text,
                    "subPathExpr and subPath are mutually exclusive",
                );
            }
            relative(errors, &path, text);
        }
        kind_of_mount(errors, &path, mount, privileged);
    }
}

fn kind_of_mount(errors: &mut Errors, path: &Path, mount: &VolumeMount, privileged: bool) {
    let propagation = mount.mount_propagation.as_deref();
    let field = path.child("mountPropagation");
    errors.one_of(
        &field,
        propagation,
        &["Bidirectional", "HostToContainer", "None"],
    );
    if propagation == Some("Bidirectional") && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(&field, why);
    }
    let recursive = mount.recursive_read_only.as_deref();
    let field = path.child("recursiveReadOnly");
    errors.one_of(&field, recursive, &["Disabled", "Enabled", "IfPossible"]);
    if recursive.is_some() && mount.read_only != Some(true) {
        errors.forbidden(&field, "may only be specified when readOnly is true");
    }
    if matches!(recursive, Some("Enabled" | "IfPossible"))
        && propagation.is_some_and(|p| p != "None")
    {
        let why = "may only be specified when mountPropagation is None or not specified";
        errors.forbidden(&field, why);
    }
    for (index, option) in mount.bind_mount_options.iter().flatten().enumerate() {
        let path = path.child("bindMountOptions").index(index);
        errors.one_of(&path, Some(option), &["nodev", "noexec", "nosuid"]);
    }
}

/// A path below something else.
pub(super) fn relative(errors: &mut Errors, path: &Path, text: &str) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(errors, path, text);
}

fn no_backsteps(errors: &mut Errors, path: &Path, text: &str) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}
