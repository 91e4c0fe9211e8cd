//! What is kept in containerd's bundle, for those who come after this process: a second start, or `delete`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::options::ROOT;
use crate::error::{Context, Error, Result};
use crate::spec::load;

/// Where the shim listens; containerd 1.6 reads it when it starts again.
const ADDRESS: &str = "address";
/// Where the container's state is, if it is not below [`ROOT`].
const STATE_ROOT: &str = "runp-root";

/// Keeps where the container's state is.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn note_root(bundle: &Path, root: &Path) -> Result<()> {
    match root.starts_with(ROOT) {
        true => Ok(()),
        false => write(bundle, STATE_ROOT, root.as_os_str().as_encoded_bytes()),
    }
}

/// Where the container's state is.
pub(super) fn root(bundle: &Path, namespace: &str) -> PathBuf {
    let noted = std::fs::read_to_string(bundle.join(STATE_ROOT));
    noted.map_or_else(|_| Path::new(ROOT).join(namespace), PathBuf::from)
}

/// Keeps where the shim listens.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn note_address(bundle: &Path, address: &str) -> Result<()> {
    write(bundle, ADDRESS, address.as_bytes())
}

/// The path on which the bundle's shim listens, or has.
pub(super) fn socket(bundle: &Path) -> Option<PathBuf> {
    let address = std::fs::read_to_string(bundle.join(ADDRESS)).ok()?;
    address.strip_prefix("unix://").map(PathBuf::from)
}

/// Whoever reads it sees all or nothing.
fn write(bundle: &Path, name: &str, contents: &[u8]) -> Result<()> {
    let path = bundle.join(name);
    let new = bundle.join(format!(".{name}"));
    std::fs::write(&new, contents)
        .and_then(|()| std::fs::rename(&new, &path))
        .context(|| format!("write {}", path.display()))
}

/// The pod that a container belongs to, by its config.json's annotations; itself if it is in none. A sandbox's bundle has no
/// config.json.
///
/// # Errors
/// When config.json is there and cannot be understood.
pub(super) fn group(bundle: &Path, id: &str) -> Result<String> {
    const NAMES: [&str; 2] = [
        "io.containerd.runc.v2.group",
        "io.kubernetes.cri.sandbox-id",
    ];
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: Option<HashMap<String, String>>,
    }
    if !bundle.join("config.json").exists() {
        return Ok(id.to_owned());
    }
    let config: Config = load::read_json(&bundle.join("config.json"))?;
    let annotations = config.annotations.unwrap_or_default();
    let group = NAMES.iter().find_map(|name| annotations.get(*name));
    match group {
        Some(group) if group.is_empty() => Err(Error::new(
            "config.json: annotations: the pod's id is empty",
        )),
        Some(group) => Ok(group.clone()),
        None => Ok(id.to_owned()),
    }
}
