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
