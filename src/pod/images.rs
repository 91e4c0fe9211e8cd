//! Where a container's root file system comes from.
//!
//! Images are directories on this machine. In this order:
//!
//! 1. `--rootfs IMAGE=DIR`, where `IMAGE` is the manifest's `image` as written, or without tag and digest;
//! 2. the `root.path` of the container's bundle;
//! 3. `images/IMAGE` beside the manifest, `IMAGE` first as written, then without tag and digest.
//!
//! A directory beside the manifest that is named like the container and has a `config.json` in it is its OCI bundle:
//! that configuration is the base of the container's own, and `image` then only informs.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec};
use oci_spec::runtime::Spec;

use crate::error::{Context, Error, Result};
use crate::spec;

/// A container's image.
#[derive(Debug)]
pub struct Image {
    /// Where relative paths of the configuration start.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub root: PathBuf,
    /// The bundle's configuration, if it is one.
    pub config: Option<Spec>,
}

/// Finds the container's image; `path` is the container's in the manifest.
///
/// # Errors
/// No such image, or a bundle that cannot be read.
pub fn resolve(
    path: &str,
    container: &Container,
    directory: &Path,
    rootfs: &[(String, PathBuf)],
) -> Result<Image> {
    let image = container.image.as_deref().unwrap_or_default();
    let field = format!("{path}.image");
    let given = given(&field, image, rootfs)?;
    let bundle = directory.join(&container.name);
    if bundle.join("config.json").is_file() {
        let step = format!("{path}: bundle {}", bundle.display());
        return from_bundle(bundle, given).context(|| step);
    }
    let root = match given {
        Some(root) => root,
        None => beside(&field, image, directory)?,
    };
    Ok(Image {
        bundle: directory.to_owned(),
        root,
        config: None,
    })
}

fn from_bundle(bundle: PathBuf, given: Option<PathBuf>) -> Result<Image> {
    let config = spec::load::load(&bundle)?;
    let own = config.root().as_ref();
    let root = match given {
        Some(root) => root,
        None => bundle.join(own.map_or(Path::new("rootfs"), |root| root.path())),
    };
    if !root.is_dir() {
        return Err(Error::new(format!(
            "config.json: root.path: no directory {}",
            root.display()
        )));
    }
    Ok(Image {
        root,
        bundle,
        config: Some(config),
    })
}

/// The root file system of an image that is no container's; `path` is the field that names it.
///
/// # Errors
/// No such image.
pub fn directory(
    path: &str,
    image: &str,
    directory: &Path,
    rootfs: &[(String, PathBuf)],
) -> Result<PathBuf> {
    match given(path, image, rootfs)? {
        Some(root) => Ok(root),
        None => beside(path, image, directory),
    }
}

/// `images/IMAGE` beside the manifest.
fn beside(path: &str, image: &str, directory: &Path) -> Result<PathBuf> {
    let images = directory.join("images");
    for name in [image, bare(image)] {
        if !stays_below(name) {
            return Err(Error::new(format!(
                "{path}: {image:?} is no image name: it leads out of {}",
                images.display()
            )));
        }
        if images.join(name).is_dir() {
            return Ok(images.join(name));
        }
    }
    let name = bare(image);
    let hint = format!(
        "images are directories: make {}, or pass --rootfs {name}=DIR",
        images.join(name).display()
    );
    Err(Error::new(format!("{path}: no root file system for image {image:?}")).hint(hint))
}

/// The `--rootfs` for an image: of its full name, else of its bare one.
fn given(path: &str, image: &str, rootfs: &[(String, PathBuf)]) -> Result<Option<PathBuf>> {
    let named = |wanted: &str| rootfs.iter().find(|(name, _)| name == wanted);
    let Some((name, root)) = named(image).or_else(|| named(bare(image))) else {
        return Ok(None);
    };
    if !root.is_dir() {
        return Err(Error::new(format!(
            "{path}: --rootfs {name}={}: no such directory",
            root.display()
        )));
    }
    let root = std::path::absolute(root).context(|| format!("make {} absolute", root.display()))?;
    Ok(Some(root))
}

/// Without digest and tag. A colon before the last slash belongs to a registry's port.
fn bare(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[name..].find(':') {
        Some(colon) => &image[..name + colon],
        None => image,
    }
}

fn stays_below(name: &str) -> bool {
    !name.is_empty()
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

/// Every `--rootfs` that no container's image matches: a misspelt one.
pub fn unused(spec: &PodSpec, rootfs: &[(String, PathBuf)]) -> Vec<Error> {
    let inits = spec.init_containers.iter().flatten();
    let volumes = spec.volumes.iter().flatten();
    let mounted = volumes.filter_map(|v| v.image.as_ref()?.reference.as_deref());
    let images: BTreeSet<&str> = inits
        .chain(&spec.containers)
        .filter_map(|c| c.image.as_deref())
        .chain(mounted)
        .collect();
    let used = |name: &str| images.iter().any(|i| *i == name || bare(i) == name);
    let known = images.iter().copied().collect::<Vec<_>>().join(", ");
    let unused = rootfs.iter().filter(|(name, _)| !used(name));
    unused
        .map(|(name, root)| {
            Error::new(format!(
                "--rootfs {name}={}: no container has this image",
                root.display()
            ))
            .hint(format!("the pod's images: {known}"))
        })
        .collect()
}
