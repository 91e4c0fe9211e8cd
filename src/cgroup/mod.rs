//! Control groups: v1, hybrid and v2.

pub mod devices;
pub mod layout;
pub mod limits;
pub mod v1;
pub mod v2;

/// A container's cgroup and its limits, as decided from config.json.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Below the root of every hierarchy: absolute, without `..`.
    pub path: std::path::PathBuf,
}

/// Decides a container's cgroup from `linux.cgroupsPath`; `/runp/<id>` without one.
///
/// What it returns is worth nothing if it adds to `errors`.
pub fn plan(
    id: &crate::state::ContainerId,
    linux: Option<&oci_spec::runtime::Linux>,
    _errors: &mut Vec<crate::error::Error>,
) -> Plan {
    let path = linux.and_then(|linux| linux.cgroups_path().clone());
    Plan {
        path: path.unwrap_or_else(|| format!("/runp/{id}").into()),
    }
}
