//! `linux.mountLabel`: the SELinux context of what is in the container's file systems.

use super::field::Field;
use super::plan::{Mount, MountKind};

/// The kernel labels what is in these by itself, and takes no context for them.
const OWN_LABELS: [&[u8]; 5] = [b"proc", b"sysfs", b"mqueue", b"cgroup", b"cgroup2"];

/// Adds the context to the parameters of all new file systems. Bind mounts keep what their files have. Says whether there
/// is one.
pub(super) fn label_mounts(
    label: Option<&str>,
    mounts: &mut [Mount],
    field: &mut Field<'_>,
) -> bool {
    let Some(label) = label.filter(|label| !label.is_empty()) else {
        return false;
    };
    let label = field.c_string(label);
    for mount in mounts {
        if let MountKind::FileSystem {
            fstype, parameters, ..
        } = &mut mount.kind
            && !OWN_LABELS.contains(&fstype.as_bytes())
        {
            parameters.push((c"context".into(), Some(label.clone())));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::testing::{assert_refused, planned};

    #[test]
    fn new_file_systems_get_it_except_those_that_label_themselves() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let plan = planned(&[("/linux/mountLabel", json!(label))]);
        assert!(plan.mount_label);
        let labelled = plan.mounts.iter().filter(|mount| match &mount.kind {
            MountKind::FileSystem { parameters, .. } => parameters.iter().any(|(key, value)| {
                key.as_c_str() == c"context"
                    && value.as_ref().is_some_and(|v| v.to_str() == Ok(label))
            }),
            _ => false,
        });
        let destinations: Vec<_> = labelled.map(|m| m.destination.to_string_lossy()).collect();
        assert_eq!(destinations, ["/dev", "/dev/pts", "/dev/shm"]);
        assert!(!planned(&[]).mount_label);
        let message = "linux.mountLabel: \"a\\0\" contains a NUL byte";
        assert_refused(&[("/linux/mountLabel", json!("a\0"), message)]);
    }
}
