//! Namespaces: new ones, the caller's, and those of others by path.

use serde_json::json;

use crate::support::{Bundle, Case, Need, is_runp, process};

/// A user namespace with ids that nobody on the host has.
fn with_user_namespace<'a>(c: Bundle<'a>, path: Option<&str>) -> Bundle<'a> {
    let map = |host| json!([{"containerID": 0, "hostID": host, "size": 65536}]);
    let c = c.namespace("user", path);
    c.with("/linux/uidMappings", map(100_000))
        .with("/linux/gidMappings", map(200_000))
}

/// A runtime that does not open the root before it enters the user namespace needs this.
fn let_everyone_enter(c: &Bundle<'_>) {
    for dir in c.path.ancestors().take(2) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir, mode).unwrap();
    }
}

/// Every kind of namespace, new, joined and the caller's, beside a user namespace that is the caller's, new or joined.
#[test]
fn namespaces_in_any_combination() {
    // runc starts nothing without a /proc, and none can be mounted for a pid namespace of another user namespace.
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let files = [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ];
    let bare = |name: &str| {
        let c = case.bundle(name).without("/hostname").sh("sleep 1000");
        let dev = json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"});
        let mut c = c.with("/mounts", json!([dev]));
        for (kind, _) in files {
            c = c.namespace(kind, None);
        }
        c
    };
    let of_root = bare("of-root");
    of_root.run_detached().ok();
    let of_user = with_user_namespace(bare("of-user"), None);
    of_user.run_detached().ok();
    let (of_root_pid, of_user_pid) = (of_root.pid(), of_user.pid());
    let path = |holder: i32, file: &str| format!("/proc/{holder}/ns/{file}");
    let inode = |pid: i32, file: &str| process::namespace(pid, file).unwrap();
    let host = std::process::id().cast_signed();

    let mut c = bare("c");
    let base = c.config.clone();
    for user in ["host", "new", "joined"] {
        for (kind, file) in files {
            for (how, holder) in [
                ("host", None),
                ("joined", Some(of_root_pid)),
                ("joined", Some(of_user_pid)),
            ] {
                c.config = base.clone();
                c = match user {
                    "host" => c,
                    "new" => with_user_namespace(c, None),
                    _ => with_user_namespace(c, Some(&path(of_user_pid, "user"))),
                };
                c = match holder {
                    None => c.no_namespace(kind),
                    Some(holder) => c.namespace(kind, Some(&path(holder, file))),
                };
                let which = format!("user {user}, {kind} {how} {:?}", holder);
                let run = c.run_detached();
                assert!(run.status.success(), "{which}: {run:#?}");
                let pid = c.pid();
                let expected = inode(holder.unwrap_or(host), file);
                assert_eq!(inode(pid, file), expected, "{which}");
                for (_, other) in files.iter().filter(|(other, _)| *other != kind) {
                    let own = inode(pid, other);
                    for holder in [host, of_root_pid, of_user_pid] {
                        assert_ne!(own, inode(holder, other), "{which}: {other}");
                    }
                }
                let users = [host, of_user_pid].map(|pid| inode(pid, "user"));
                let own = inode(pid, "user");
                match user {
                    "host" => assert_eq!(own, users[0], "{which}"),
                    "new" => assert!(!users.contains(&own), "{which}"),
                    _ => assert_eq!(own, users[1], "{which}"),
                }
                c.exec(&[], &["/bin/true"]).ok();
                c.delete_force().ok();
            }
        }
    }
    of_user.delete_force().ok();
    of_root.delete_force().ok();
}

#[test]
fn the_default_bundle_has_six_namespaces_of_its_own() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000").namespace("cgroup", None);
    c.run_detached().ok();
    let ours = process::namespaces(std::process::id().cast_signed());
    let theirs = process::namespaces(c.pid());
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        assert_ne!(ours[kind], theirs[kind], "{kind}");
    }
    assert_eq!(ours["user"], theirs["user"]);
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_namespace_that_is_not_listed_is_the_callers() {
    let Some(case) = Case::new(&[]) else { return };
    let mut c = case.bundle("c").sh("sleep 1000").without("/hostname");
    for kind in ["ipc", "network", "pid", "uts", "cgroup"] {
        c = c.no_namespace(kind);
    }
    // Without a network namespace of its own sysfs cannot be mounted read-write; read-only it can, by root.
    c.run_detached().ok();
    let ours = process::namespaces(std::process::id().cast_signed());
    let theirs = process::namespaces(c.pid());
    for kind in ["cgroup", "ipc", "net", "pid", "uts"] {
        assert_eq!(ours[kind], theirs[kind], "{kind}");
    }
    assert_ne!(ours["mnt"], theirs["mnt"]);
    c.delete_force().ok();
}

#[test]
fn namespaces_are_joined_by_path() {
    let Some(case) = Case::new(&[]) else { return };
    let first = case.bundle("first").sh("sleep 1000");
    first.run_detached().ok();
    let holder = first.pid();

    let mut second = case.bundle("second").sh("sleep 1000").without("/hostname");
    for (kind, file) in [
        ("ipc", "ipc"),
        ("network", "net"),
        ("uts", "uts"),
        ("pid", "pid"),
    ] {
        second = second.namespace(kind, Some(&format!("/proc/{holder}/ns/{file}")));
    }
    second.run_detached().ok();
    let (a, b) = (
        process::namespaces(holder),
        process::namespaces(second.pid()),
    );
    for kind in ["ipc", "net", "pid", "uts"] {
        assert_eq!(a[kind], b[kind], "{kind}");
    }
    assert_ne!(a["mnt"], b["mnt"]);
    // In a pid namespace that is joined it is not the first process, and sees the first.
    let ps = second
        .exec(
            &[],
            &["sh", "-c", "ls -d /proc/1 && readlink /proc/1/ns/net"],
        )
        .ok();
    assert!(ps.stdout.contains(&a["net"]), "{ps:?}");
    second.delete_force().ok();
    assert_eq!(first.status(), "running", "the holder was not touched");
    first.delete_force().ok();
}

#[test]
fn a_path_of_the_wrong_kind_is_refused() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true");
    let c = c.namespace("network", Some("/proc/self/ns/uts"));
    c.create().fails_saying(&["network", "/proc/self/ns/uts"]);
    let c = c.namespace("network", Some("/no/such/file"));
    c.create()
        .fails_saying(&["network", "/no/such/file", "ENOENT"]);
    case.assert_nothing_left();
}

#[test]
fn a_user_namespace_maps_ids() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .namespace("user", None)
        .with(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]),
        )
        .with(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]),
        )
        .sh("sleep 1000");
    // The bundle is below a directory that only root enters: that must not matter.
    if !is_runp() {
        let_everyone_enter(&c);
    }
    c.run_detached().ok();
    let pid = c.pid();
    assert_eq!(
        process::status(pid, "Uid"),
        "100000\t100000\t100000\t100000"
    );
    assert_eq!(
        process::status(pid, "Gid"),
        "200000\t200000\t200000\t200000"
    );
    assert_eq!(c.exec(&[], &["id", "-u"]).ok().stdout, "0\n");
    c.delete_force().ok();
}

#[test]
fn the_host_name_is_the_containers_own() {
    let Some(case) = Case::new(&[]) else { return };
    let before = rustix::system::uname().nodename().to_owned();
    let c = case
        .bundle("c")
        .with("/hostname", json!("inside"))
        .args(&["/bin/hostname"]);
    assert_eq!(c.prints(), "inside\n");
    assert_eq!(rustix::system::uname().nodename(), &*before);
    c.no_namespace("uts").create().fails_saying(&["hostname"]);
}

#[test]
fn sysctls_of_its_own_namespaces_are_set_and_those_of_the_host_refused() {
    let Some(case) = Case::new(&[]) else { return };
    let read = |key: &str| std::fs::read_to_string(format!("/proc/sys/{key}")).unwrap();
    let before = read("net/ipv4/ip_forward");
    let c = case
        .bundle("c")
        .with("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "33"}))
        .args(&["/bin/cat", "/proc/sys/net/ipv4/ip_default_ttl"]);
    assert_eq!(c.prints(), "33\n");
    assert_eq!(read("net/ipv4/ip_forward"), before);

    let core = read("kernel/core_pattern");
    for key in [
        "kernel.core_pattern",
        "net.ipv4./../../kernel/core_pattern",
        "vm.swappiness",
    ] {
        let c = case.bundle(&format!("bad{}", key.len()));
        let c = c.sh("true").with("/linux/sysctl", json!({key: "|/canary"}));
        c.create().fails_saying(&["linux.sysctl", key]);
    }
    assert_eq!(read("kernel/core_pattern"), core);
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case
        .bundle("c")
        .namespace("time", None)
        .with(
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}}),
        )
        .args(&["/bin/cat", "/proc/uptime"]);
    let uptime: f64 = c.prints().split(' ').next().unwrap().parse().unwrap();
    let ours = std::fs::read_to_string("/proc/uptime").unwrap();
    let ours: f64 = ours.split(' ').next().unwrap().parse().unwrap();
    assert!(
        (uptime - ours - 1e6).abs() < 60.0,
        "{uptime} against {ours}"
    );
}

#[test]
fn sysctls_are_set_in_a_user_namespace() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let key = "/proc/sys/user/max_net_namespaces";
    let before = std::fs::read_to_string(key).unwrap();
    let c = with_user_namespace(case.bundle("c"), None)
        .with(
            "/linux/sysctl",
            json!({"net.ipv4.ip_default_ttl": "33", "user.max_net_namespaces": "7"}),
        )
        .args(&["/bin/cat", "/proc/sys/net/ipv4/ip_default_ttl", key]);
    assert_eq!(c.prints(), "33\n7\n");
    assert_eq!(std::fs::read_to_string(key).unwrap(), before);
}

/// In a network namespace that stands for the host's, with an interface that has an address.
fn beside_an_interface(case: &Case, c: &Bundle<'_>) -> crate::support::Done {
    let script = "busybox ip link add veth1 type veth && busybox ip link set veth1 name host1 &&
        busybox ip addr add 192.0.2.7/25 dev host1 && busybox ip -6 addr add 2001:db8::7/64 dev host1 &&
        busybox ip link set host1 up && \"$RUNTIME\" --root \"$ROOT\" run --bundle \"$BUNDLE\" \"$ID\" &&
        ! busybox ip link show host1 2>/dev/null";
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--net", "sh", "-c", script])
        .env("RUNTIME", crate::support::binary())
        .env("ROOT", case.state_root())
        .env("BUNDLE", &c.path)
        .env("ID", &c.id);
    case.finish(command)
}

#[test]
fn a_network_device_is_moved_with_its_addresses() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/linux/netDevices", json!({"host1": {"name": "inside0"}}))
        .args(&["/bin/ip", "addr", "show", "dev", "inside0"]);
    let printed = beside_an_interface(&case, &c).ok().stdout;
    for part in ["inside0", "UP", "inet 192.0.2.7/25", "inet6 2001:db8::7/64"] {
        assert!(printed.contains(part), "{part:?} is not in {printed}");
    }
    // In a user namespace, and in a network namespace that is joined.
    let c = with_user_namespace(c, None);
    beside_an_interface(&case, &c).ok();
    let holder = case.bundle("holder").sh("sleep 1000");
    holder.run_detached().ok();
    let c = case
        .bundle("joining")
        .with("/linux/netDevices", json!({"host1": {}}))
        .namespace("network", Some(&format!("/proc/{}/ns/net", holder.pid())))
        .args(&["/bin/ip", "addr", "show", "dev", "host1"]);
    let printed = beside_an_interface(&case, &c).ok().stdout;
    assert!(printed.contains("inet 192.0.2.7/25"), "{printed}");
    holder.delete_force().ok();
}

#[test]
fn a_network_device_that_cannot_be_moved_is_named() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for (name, new_name, says) in [
        ("none", "a", &["linux.netDevices[\"none\"]", "ENODEV"][..]),
        ("lo", "a", &["linux.netDevices[\"lo\"]", "loopback"]),
        ("host1", "lo", &["linux.netDevices[\"host1\"]", "EEXIST"]),
    ] {
        let c = case
            .bundle(&format!("{name}-{new_name}"))
            .with("/linux/netDevices", json!({name: {"name": new_name}}))
            .sh("true");
        beside_an_interface(&case, &c).fails_saying(says);
    }
    case.assert_nothing_left();
}
