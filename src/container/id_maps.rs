//! The id maps of a new user namespace, user_namespaces(7): written by the parent, as its child has no rights outside.
//!
//! A caller with CAP_SETUID and CAP_SETGID writes any map. Without them the kernel lets it map its own ids alone; for more
//! there are newuidmap(1) and newgidmap(1), which look into `/etc/subuid` and `/etc/subgid`.

use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::spec::plan::{IdMap, Namespace, Namespaces};

/// One of the two maps.
struct Kind {
    field: &'static str,
    file: &'static str,
    tool: &'static str,
    subordinate: &'static str,
}

const UID: Kind = Kind {
    field: "linux.uidMappings",
    file: "uid_map",
    tool: "newuidmap",
    subordinate: "/etc/subuid",
};
const GID: Kind = Kind {
    field: "linux.gidMappings",
    file: "gid_map",
    tool: "newgidmap",
    subordinate: "/etc/subgid",
};

/// Writes the id maps of a child in a new user namespace.
pub(super) fn write(pid: i32, plan: &Namespaces) -> Result<()> {
    if plan.user != Namespace::New {
        return Ok(());
    }
    let own = rustix::process::geteuid().as_raw();
    write_one(pid, &UID, &plan.uid_map, own, || Ok(()))?;
    let own = rustix::process::getegid().as_raw();
    // Otherwise a user could leave a group that is there to deny something to its members (CVE-2014-8989).
    let deny = || write_file(&format!("/proc/{pid}/setgroups"), "deny");
    write_one(pid, &GID, &plan.gid_map, own, deny)
}

/// `before_own` makes the kernel accept a map of the caller's own id alone.
fn write_one(
    pid: i32,
    kind: &Kind,
    map: &[IdMap],
    own: u32,
    before_own: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let path = format!("/proc/{pid}/{}", kind.file);
    let text: String = map.iter().map(ToString::to_string).collect();
    let hint = || format!("see {} and user_namespaces(7)", kind.field);
    match write_file(&path, &text) {
        Err(e) if e.errno() == Some(libc::EPERM) && maps_only(map, own) => {
            before_own()?;
            write_file(&path, &text).map_err(|e| e.hint(hint()))
        }
        Err(e) if e.errno() == Some(libc::EPERM) => run_tool(pid, kind, map, own),
        written => written.map_err(|e| e.hint(hint())),
    }
}

fn write_file(path: &str, text: &str) -> Result<()> {
    std::fs::write(path, text).context(|| format!("write {:?} to {path}", text.trim_end()))
}

fn maps_only(map: &[IdMap], own: u32) -> bool {
    matches!(map, [line] if line.size == 1 && line.host_id == own)
}

fn run_tool(pid: i32, kind: &Kind, map: &[IdMap], own: u32) -> Result<()> {
    let step = format!("map ids of {} with {}", kind.field, kind.tool);
    let numbers = map
        .iter()
        .flat_map(|line| [line.container_id, line.host_id, line.size]);
    let output = Command::new(kind.tool)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .output()
        .map_err(|e| {
            Error::sys(&step, e).hint(format!(
                "without root only the own id {own} can be mapped, and more with {}: install the package uidmap, \
                 and give the user a range in {}",
                kind.tool, kind.subordinate
            ))
        })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::new(step).hint(format!(
            "it says: {}; what the user may map is in {}",
            String::from_utf8_lossy(&output.stderr).trim(),
            kind.subordinate
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_id_alone_needs_no_right() {
        let line = |container_id, host_id, size| IdMap {
            container_id,
            host_id,
            size,
        };
        assert!(maps_only(&[line(0, 1000, 1)], 1000));
        assert!(maps_only(&[line(7, 1000, 1)], 1000));
        for other in [
            vec![],
            vec![line(0, 1001, 1)],
            vec![line(0, 1000, 2)],
            vec![line(0, 1000, 1), line(1, 100_000, 1)],
        ] {
            assert!(!maps_only(&other, 1000), "{other:?}");
        }
    }
}
