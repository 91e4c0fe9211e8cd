//! `linux.sysctl`: an allow-list, and a namespace of the container for each.

use std::collections::HashMap;

use super::field::Field;
use super::plan::{Namespace, Namespaces};

/// Those of the IPC namespace, ipc_namespaces(7).
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// Paths below `/proc/sys` and their values, in the order of the paths.
///
/// Everything else belongs to the machine (CVE-2022-0811: `kernel.core_pattern`).
pub(crate) fn plan_sysctl(
    sysctl: Option<&HashMap<String, String>>,
    namespaces: &Namespaces,
    field: &mut Field<'_>,
) -> Vec<(String, String)> {
    let mut sysctl: Vec<(&String, &String)> = sysctl.into_iter().flatten().collect();
    sysctl.sort();
    let mut plan: Vec<(String, String)> = Vec::new();
    for (key, value) in sysctl {
        let field = &mut field.key(key);
        field.c_string(value);
        let checked = sysctl_of(key)
            .and_then(|(path, namespace)| allowed(namespace, namespaces).map(|()| path));
        match checked {
            Ok(path) if plan.iter().any(|(other, _)| *other == path) => {
                field.refuse(format_args!("{path:?} is there twice"));
            }
            Ok(path) => plan.push((path, value.clone())),
            Err(reason) => field.refuse(reason),
        }
    }
    plan
}

/// sysctl(8), sysctl.d(5): the first separator tells which one is used; the other one is then a plain character, so
/// that both `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` name an interface `eth0.1`.
fn normalise(key: &str) -> Option<String> {
    let dots = key
        .find(['.', '/'])
        .is_some_and(|i| key[i..].starts_with('.'));
    let path: String = match dots {
        false => key.into(),
        true => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    };
    let legal = |name: &str| {
        !["", ".", ".."].contains(&name)
            && name
                .chars()
                .all(|c| c.is_ascii_graphic() && c != '+' && c != '\\')
    };
    path.split('/').all(legal).then_some(path)
}

/// A sysctl as a path below `/proc/sys`, and the kind of namespace that it belongs to.
///
/// # Errors
/// Why it is none that a container may have.
pub(crate) fn sysctl_of(key: &str) -> std::result::Result<(String, &'static str), String> {
    let path = normalise(key).ok_or_else(|| "is no name of a sysctl".to_string())?;
    let namespace = namespace_of(&path)?;
    Ok((path, namespace))
}

fn namespace_of(path: &str) -> std::result::Result<&'static str, String> {
    match path {
        "kernel/hostname" => Err("conflicts with hostname, which sets it".into()),
        "kernel/domainname" => Ok("uts"),
        path if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Ok("ipc"),
        // How many namespaces there may be in it, user_namespaces(7).
        path if path.starts_with("user/max_") => Ok("user"),
        path if path.starts_with("net/") => Ok("network"),
        _ => Err("belongs to the machine, not to a namespace of the container".into()),
    }
}

fn allowed(name: &str, namespaces: &Namespaces) -> std::result::Result<(), String> {
    let owner = match name {
        "uts" => &namespaces.uts,
        "ipc" => &namespaces.ipc,
        "user" => &namespaces.user,
        _ => &namespaces.network,
    };
    match owner {
        Namespace::Inherit => Err(format!(
            "is the host's without a {name} namespace in linux.namespaces"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::testing::{planned, refusals};

    #[test]
    fn keys_become_paths() {
        for (key, path) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                Some("net/ipv4/conf/eth0.1/forwarding"),
            ),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                Some("net/ipv4/conf/eth0.1/forwarding"),
            ),
            ("kernel.sem", Some("kernel/sem")),
            ("", None),
            (".", None),
            ("net..x", None),
            ("net.ipv4.", None),
            ("/net/ipv4", None),
            ("net/ipv4/../../kernel/core_pattern", None),
            ("net.ipv4.//.//.kernel.core_pattern", None),
            ("1+kernel.core_pattern", None),
            ("net.a b", None),
            ("net.a\n", None),
            ("net.a\0", None),
        ] {
            assert_eq!(normalise(key).as_deref(), path, "{key:?}");
        }
    }

    #[test]
    fn those_of_own_namespaces_are_set() {
        let sysctl = json!({
            "net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "10", "kernel.sem": "1 2 3 4",
            "kernel.domainname": "d"
        });
        let plan = planned(&[("/linux/sysctl", sysctl)]);
        let keys: Vec<&str> = plan.sysctl.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "fs/mqueue/msg_max",
                "kernel/domainname",
                "kernel/sem",
                "net/ipv4/ip_forward"
            ]
        );
        assert_eq!(plan.sysctl[2].1, "1 2 3 4");
    }

    #[test]
    fn those_of_the_host_are_refused() {
        let mount = json!([{"type": "mount"}]);
        for (key, message) in [
            (
                "net.ipv4.ip_forward",
                "is the host's without a network namespace in linux.namespaces",
            ),
            (
                "kernel.shmmax",
                "is the host's without a ipc namespace in linux.namespaces",
            ),
            (
                "fs.mqueue.msg_max",
                "is the host's without a ipc namespace in linux.namespaces",
            ),
            (
                "kernel.domainname",
                "is the host's without a uts namespace in linux.namespaces",
            ),
            ("kernel.hostname", "conflicts with hostname, which sets it"),
            (
                "kernel.core_pattern",
                "belongs to the machine, not to a namespace of the container",
            ),
            (
                "user.max_net_namespaces",
                "is the host's without a user namespace in linux.namespaces",
            ),
            (
                "vm.swappiness",
                "belongs to the machine, not to a namespace of the container",
            ),
            (
                "network.x",
                "belongs to the machine, not to a namespace of the container",
            ),
            (
                "kernel.semantics",
                "belongs to the machine, not to a namespace of the container",
            ),
            (
                "net/ipv4/../../kernel/core_pattern",
                "is no name of a sysctl",
            ),
            ("1+kernel.core_pattern", "is no name of a sysctl"),
        ] {
            let sysctl = json!({key: "1"});
            let changes = [
                ("/linux/namespaces", mount.clone()),
                ("/hostname", json!("")),
                ("/linux/sysctl", sysctl),
            ];
            assert_eq!(
                refusals(&changes),
                [format!("linux.sysctl[{key:?}]: {message}")]
            );
        }
    }

    #[test]
    fn one_key_has_one_value() {
        let sysctl = json!({"net.a": "1", "net/a": "2"});
        assert_eq!(
            refusals(&[("/linux/sysctl", sysctl)]),
            ["linux.sysctl[\"net/a\"]: \"net/a\" is there twice"]
        );
        assert_eq!(
            refusals(&[("/linux/sysctl", json!({"net.a": "\0"}))]),
            ["linux.sysctl[\"net.a\"]: \"\\0\" contains a NUL byte"]
        );
    }
}
