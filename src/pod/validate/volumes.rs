//! `spec.volumes`, and what a path in a pod may look like.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, PodSpec, Volume, VolumeMount,
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
    if let Some(empty_dir) = &volume.empty_dir {
        self::empty_dir(errors, &path.child("emptyDir"), empty_dir);
    }
    if let Some(host_path) = &volume.host_path {
        let path = path.child("hostPath");
        match volume.empty_dir {
            Some(_) => errors.forbidden(&path, "may not specify more than 1 volume type"),
            None => self::host_path(errors, &path, host_path),
        }
    }
}

fn empty_dir(errors: &mut Errors, path: &Path, empty_dir: &EmptyDirVolumeSource) {
    errors.one_of(
        &path.child("medium"),
        empty_dir.medium.as_deref(),
        &["", "Memory"],
    );
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
