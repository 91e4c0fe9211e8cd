//! Control groups: v1, hybrid and v2.
//!
//! [`plan`] decides from config.json, purely: where the cgroup is ([`Plan::path`]), what it may use ([`limits`]) and which
//! devices ([`devices`]). [`Layout`] knows what is mounted and makes it, as directories below the root of every hierarchy;
//! or [`systemd`] makes it as a scope, and we only fill it in. [`Cgroup`] is one that exists, whole or in part.

pub mod devices;
pub mod layout;
pub mod limits;

mod below;
mod create;
mod file;
mod group;
mod kill;
mod merge;
mod oom;
mod set;
pub mod stats;
pub mod systemd;
mod wait;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Linux;

pub use below::Below;
pub use group::Cgroup;
pub use layout::Layout;
pub use limits::Limits;
pub use merge::merged;
pub use oom::OomWatch;
pub use stats::Stats;

use crate::error::{Error, Result};
use crate::state::ContainerId;

/// Where the cgroups are that have no `linux.cgroupsPath`. The directory itself is ours: it comes with the first of
/// them and goes with the last.
pub const HOME: &str = "/runp";

/// A container's cgroup and its limits, as decided from config.json.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Below the root of every hierarchy as it is mounted: absolute, without `..`.
    pub path: PathBuf,
    /// What it may use.
    pub limits: Limits,
    /// Which devices. `None` for a cgroup that holds other cgroups, which have rules of their own: on v1 a cgroup
    /// cannot allow what the one above denies.
    pub devices: Option<devices::Rules>,
    /// Of one that systemd makes.
    pub scope: Option<systemd::Scope>,
}

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy)]
pub enum Maker<'a> {
    /// We, as directories.
    Cgroupfs,
    /// systemd, as a scope.
    Systemd {
        /// Of config.json: some are properties of the scope.
        annotations: Option<&'a HashMap<String, String>>,
        /// The user's systemd, not that of the machine.
        user: bool,
    },
}

impl Plan {
    /// A cgroup around others, with limits for all of them together: a pod's.
    pub fn around(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self {
            path: path.into(),
            limits,
            devices: None,
            scope: None,
        }
    }

    /// Finds out where the one is in whose cgroups it is to be made. Nothing to do if that is nobody but us.
    ///
    /// # Errors
    /// There is no systemd.
    pub fn resolve(&mut self) -> Result<()> {
        if let Some(scope) = &self.scope {
            let path = self.path.strip_prefix("/").unwrap_or(&self.path);
            self.path = Path::new("/").join(scope.unit.home()?).join(path);
        }
        Ok(())
    }
}

/// Decides on the cgroup of the container `id`; everything that is wrong is appended to `errors`.
///
/// A relative `linux.cgroupsPath` starts at the root of the hierarchies too, which the runtime-spec leaves to the
/// runtime.
pub fn plan(
    id: &ContainerId,
    linux: Option<&Linux>,
    maker: Maker<'_>,
    errors: &mut Vec<Error>,
) -> Plan {
    let given = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let (scope, path) = match maker {
        Maker::Cgroupfs => (None, path(id, given, errors)),
        Maker::Systemd { annotations, user } => {
            let none = HashMap::new();
            let annotations = annotations.unwrap_or(&none);
            let (scope, path) = systemd::plan(id, given, annotations, user, errors);
            (Some(scope), path)
        }
    };
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let limits = resources.map(|r| Limits::from_resources(r, "linux.resources", errors));
    Plan {
        path,
        limits: limits.unwrap_or_default(),
        devices: Some(device_rules(linux, errors)),
        scope,
    }
}

fn device_rules(linux: Option<&Linux>, errors: &mut Vec<Error>) -> devices::Rules {
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let list = resources.and_then(|r| r.devices().as_deref());
    devices::Rules::from_list(list.unwrap_or_default(), "linux.resources.devices", errors)
}

/// Loads the program with the device rules of a container ahead of its start, if it is going to have one.
///
/// # Errors
/// What is wrong with the rules, and the kernel's.
pub fn load_devices(linux: Option<&Linux>) -> Result<()> {
    let mut errors = Vec::new();
    let rules = device_rules(linux, &mut errors);
    Error::all("linux.resources.devices", errors)?;
    Layout::detect()?.load_devices(&rules)
}

fn path(id: &ContainerId, given: Option<&Path>, errors: &mut Vec<Error>) -> PathBuf {
    let path = match given.filter(|path| !path.as_os_str().is_empty()) {
        Some(given) => normal(given).map_err(|e| e.step("linux.cgroupsPath")),
        None => normal(&default_path(id))
            .map_err(|e| e.hint("set linux.cgroupsPath to give the cgroup another name")),
    };
    path.unwrap_or_else(|e| {
        errors.push(e);
        PathBuf::new()
    })
}

/// Where the cgroup of a container is that does not say.
pub fn default_path(id: &ContainerId) -> PathBuf {
    Path::new(HOME).join(id.as_str())
}

/// The path as an absolute one of plain names, none of them longer than the kernel takes.
fn normal(given: &Path) -> Result<PathBuf> {
    let refuse =
        |why: &str, hint: &str| Err(Error::new(format!("{}: {why}", given.display())).hint(hint));
    let mut path = PathBuf::from("/");
    for component in given.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) if name.len() > 255 => {
                return refuse("a name in it is longer than 255 bytes", "shorten it");
            }
            Component::Normal(name) if name.as_encoded_bytes().contains(&b'\n') => {
                return refuse("a line break in a name", "cgroups cannot have that");
            }
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return refuse("leads out of its parent", "write it without \"..\"");
            }
        }
    }
    if path.parent().is_none() {
        return refuse("is the root of all cgroups", "name a cgroup below it");
    }
    // `slice:prefix:name` is how callers ask for a systemd scope.
    let relative = given.is_relative() && given.components().count() == 1;
    if relative
        && given
            .as_os_str()
            .as_encoded_bytes()
            .split(|b| *b == b':')
            .count()
            == 3
    {
        return refuse(
            "the form of the systemd cgroup manager",
            "add --systemd-cgroup, or give a path, as \"/runp/name\"",
        );
    }
    Ok(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod plan_tests {
    use super::*;

    fn id(id: &str) -> ContainerId {
        id.parse().unwrap()
    }

    fn plan_of(json: &str) -> (Plan, Vec<String>) {
        let linux: Linux = serde_json::from_str(json).unwrap();
        let mut errors = Vec::new();
        let plan = plan(&id("c1"), Some(&linux), Maker::Cgroupfs, &mut errors);
        (plan, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn paths_start_at_the_root() {
        let table = [
            (r#"{}"#, "/runp/c1"),
            (r#"{"cgroupsPath": ""}"#, "/runp/c1"),
            (r#"{"cgroupsPath": "/a/./b/"}"#, "/a/b"),
            (r#"{"cgroupsPath": "a/b"}"#, "/a/b"),
            (r#"{"cgroupsPath": "/pods/a:b:c"}"#, "/pods/a:b:c"),
        ];
        for (json, path) in table {
            let (plan, errors) = plan_of(json);
            assert_eq!(errors, Vec::<String>::new(), "{json}");
            assert_eq!(plan.path, Path::new(path), "{json}");
        }
    }

    #[test]
    fn refuses_paths_that_lead_elsewhere() {
        let table = [
            (
                r#"{"cgroupsPath": "/a/../b"}"#,
                "linux.cgroupsPath: /a/../b: leads out",
            ),
            (
                r#"{"cgroupsPath": ".."}"#,
                "linux.cgroupsPath: ..: leads out",
            ),
            (
                r#"{"cgroupsPath": "/"}"#,
                "linux.cgroupsPath: /: is the root",
            ),
            (
                r#"{"cgroupsPath": "/a\nb"}"#,
                "linux.cgroupsPath: /a\nb: a line break",
            ),
            (
                r#"{"cgroupsPath": "system.slice:runp:c1"}"#,
                "linux.cgroupsPath: system.slice:runp:c1: the form of the systemd",
            ),
        ];
        for (json, start) in table {
            let (_, errors) = plan_of(json);
            assert_eq!(errors.len(), 1, "{json}");
            assert!(errors[0].starts_with(start), "{json}: {}", errors[0]);
        }
        let mut errors = Vec::new();
        plan(&id(&"x".repeat(256)), None, Maker::Cgroupfs, &mut errors);
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn devices_are_denied_without_any_configuration() {
        let plan = plan(&id("c1"), None, Maker::Cgroupfs, &mut Vec::new());
        assert!(!plan.devices.unwrap().allow_everything());
    }

    #[test]
    fn all_errors_come_at_once() {
        let (_, errors) = plan_of(
            r#"{"cgroupsPath": "..", "resources": {"pids": {"limit": -7}, "devices": [{"allow": true}]}}"#,
        );
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[2].starts_with("linux.resources.devices[0].access: "));
    }
}
