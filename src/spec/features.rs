//! `runp features`: what a configuration can ask for, as the runtime-spec's features document (features.md,
//! features-linux.md). Everything in it comes from the tables that the plan is made by.

use serde_json::{Value, json};

use super::{VERSION, mount_options, namespaces, tables};

/// The features document. It says what this version of runp can, whatever the machine below it can.
pub fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "mountOptions": mount_options::names(),
        "linux": {
            "namespaces": namespaces::names(),
            "capabilities": tables::capability_names(u64::MAX),
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true},
            "mountExtensions": {"idmap": {"enabled": mount_options::names().contains(&"idmap")}},
        },
        "annotations": {"org.runp.version": env!("CARGO_PKG_VERSION")},
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::spec::testing::planned;

    fn list<'a>(features: &'a Value, pointer: &str) -> Vec<&'a str> {
        let list = features.pointer(pointer).expect(pointer);
        let names = list.as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap()).collect()
    }

    #[test]
    fn the_versions_are_accepted() {
        for pointer in ["/ociVersionMin", "/ociVersionMax"] {
            planned(&[("/ociVersion", features()[&pointer[1..]].clone())]);
        }
    }

    #[test]
    fn the_mount_options_are_accepted() {
        for option in list(&features(), "/mountOptions") {
            let options = match option {
                "idmap" | "ridmap" => continue, // has mappings to go with it: see the tests of mounts
                option => json!(["bind", option]),
            };
            let kind = match option {
                "tmpcopyup" => {
                    json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": [option]})
                }
                "sync" | "async" | "dirsync" | "lazytime" | "nolazytime" | "mand" | "nomand"
                | "silent" | "loud" | "iversion" | "noiversion" => {
                    json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": [option]})
                }
                _ => {
                    json!({"destination": "/m", "type": "bind", "source": "/", "options": options})
                }
            };
            planned(&[("/mounts/-", kind)]);
        }
    }

    #[test]
    fn the_namespaces_are_accepted() {
        for name in list(&features(), "/linux/namespaces") {
            let known = [
                "mount", "pid", "network", "ipc", "uts", "cgroup", "user", "time",
            ];
            assert!(known.contains(&name), "{name}");
        }
        assert_eq!(list(&features(), "/linux/namespaces").len(), 8);
    }

    #[test]
    fn the_capabilities_are_accepted_and_all_of_them() {
        let features = features();
        let names = list(&features, "/linux/capabilities");
        assert_eq!(
            names.len(),
            41,
            "capabilities(7), up to CAP_CHECKPOINT_RESTORE"
        );
        let plan = planned(&[("/process/capabilities", json!({"bounding": names}))]);
        assert_eq!(plan.process.capabilities.bounding, (1 << 41) - 1);
    }
}
