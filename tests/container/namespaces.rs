//! Namespaces: new ones, the caller's, and those of others by path.

use serde_json::json;

use crate::support::{Case, Need, process};

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
    // The bundle is below a directory that only root enters.
    for dir in c.path.ancestors().take(2) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir, mode).unwrap();
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
