//! `runp features`: what a configuration can ask for, as the runtime-spec's features document (features.md,
//! features-linux.md). Everything in it comes from the tables that the plan is made by.

use serde_json::{Value, json};

use super::{VERSION, execution, hooks, mount_options, namespaces, seccomp, tables};

/// The features document. It says what this version of runp can, whatever the machine below it can.
pub fn features() -> Value {
    let mut options: Vec<_> = mount_options::names().collect();
    options.sort_unstable();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": hooks::NAMES,
        "mountOptions": options,
        "linux": linux(),
        "annotations": {"org.runp.version": env!("CARGO_PKG_VERSION")},
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property."],
    })
}

fn linux() -> Value {
    json!({
        "namespaces": namespaces::names(),
        "capabilities": tables::capability_names(u64::MAX),
        "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
        "seccomp": {
            "enabled": true,
            "actions": seccomp::ACTIONS,
            "operators": seccomp::OPERATORS,
            "archs": seccomp::ARCHITECTURES,
            "knownFlags": seccomp::FLAGS,
            "supportedFlags": seccomp::FLAGS,
        },
        "apparmor": {"enabled": true},
        "selinux": {"enabled": true},
        "intelRdt": {"enabled": false},
        "memoryPolicy": {"modes": execution::MODES, "flags": execution::FLAGS},
        "netDevices": {"enabled": true},
        "mountExtensions": {"idmap": {"enabled": true}},
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
    fn the_hooks_are_accepted() {
        let features = features();
        let names = list(&features, "/hooks");
        assert_eq!(names.len(), 6);
        for name in names {
            planned(&[("/hooks", json!({name: [{"path": "/hook"}]}))]);
        }
    }

    #[test]
    fn what_seccomp_has_is_accepted() {
        let features = features();
        let plan = |profile: Value| planned(&[("/linux/seccomp", profile)]);
        for action in list(&features, "/linux/seccomp/actions") {
            let rule = json!([{"names": ["getcwd"], "action": action}]);
            plan(
                json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s", "syscalls": rule}),
            );
        }
        for operator in list(&features, "/linux/seccomp/operators") {
            let argument = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": operator}]);
            let rule = json!([{"names": ["close"], "action": "SCMP_ACT_ERRNO", "args": argument}]);
            plan(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}));
        }
        for pointer in ["archs", "knownFlags", "supportedFlags"] {
            let names = list(&features, &format!("/linux/seccomp/{pointer}"));
            let (archs, flags) = match pointer {
                "archs" => (names, vec![]),
                _ => (vec![], names),
            };
            let profile =
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "flags": flags});
            plan(profile);
        }
    }

    #[test]
    fn what_is_enabled_is_accepted() {
        let linux = &features()["linux"];
        for (feature, pointer, value) in [
            ("apparmor", "/process/apparmorProfile", json!("p")),
            ("selinux", "/process/selinuxLabel", json!("u:r:t:s0")),
            ("netDevices", "/linux/netDevices", json!({"dummy0": {}})),
        ] {
            assert_eq!(linux[feature]["enabled"], true, "{feature}");
            planned(&[(pointer, value)]);
        }
        assert_eq!(linux["intelRdt"]["enabled"], false);
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
