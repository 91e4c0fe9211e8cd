//! What of the machine is out of reach: its cgroups, its services; and input that is too long to be checked.

use std::fs;

use serde_json::json;

use crate::support::{Case, eventually, is_runp, process};

/// CVE-2023-25809: the cgroups of others can be written.
#[test]
fn the_cgroups_cannot_be_left_nor_written() {
    let Some(case) = Case::new(&[]) else { return };
    let script = "
        cat /proc/self/cgroup | grep -v ':/$'
        find /sys/fs/cgroup -name cgroup.procs | grep . > /tmp/files || echo no files
        for f in $(cat /tmp/files) /sys/fs/cgroup/../cgroup/cgroup.procs; do
            (echo 1 > $f) 2>/dev/null && echo wrote $f
            (mkdir ${f%/*}/x) 2>/dev/null && echo made ${f%/*}/x
        done
        for m in /sys/fs/cgroup /sys/fs/cgroup/*; do
            mount -o remount,rw $m 2>/dev/null && echo remounted $m
            mount -o remount,bind,rw $m 2>/dev/null && echo remounted $m
        done
        echo over; sleep 1000";
    let c = case.bundle("c").sh(script);
    let c = c.push(
        "/mounts",
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}),
    );
    let c = c.namespace("cgroup", None);
    let out = case.dir().join("printed");
    let mut run = case.runtime();
    run.args([
        "run",
        "--detach",
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ]);
    run.stdout(fs::File::create(&out).unwrap());
    assert!(run.status().unwrap().success());
    let printed = eventually("the attempts are over", || {
        let printed = fs::read_to_string(&out).unwrap();
        printed.ends_with("over\n").then_some(printed)
    });
    assert_eq!(printed, "over\n");
    // It is where it was put, in every hierarchy, also below others' eyes.
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let elsewhere = |line: &&str| !line.ends_with(&c.id) && !line.starts_with("0::");
    let v1: Vec<_> = cgroups.lines().filter(elsewhere).collect();
    assert!(
        !is_runp() || v1.iter().all(|line| line.ends_with(":/")),
        "{cgroups}"
    );
    assert!(cgroups.contains(&c.id), "{cgroups}");
    c.delete_force().ok();
}

/// CVE-2021-43784: a length that wraps, and with it what the container is given.
#[test]
fn long_input_is_taken_whole_or_refused() {
    let Some(case) = Case::new(&[]) else { return };
    let long = "x".repeat(70 * 1024);
    let c = case
        .bundle("env")
        .sh("echo ${#LONG}; readlink /proc/self/ns/pid");
    let c = c.push("/process/env", json!(format!("LONG={long}")));
    let printed = c.prints();
    let (length, namespace) = printed.trim().split_once('\n').unwrap();
    assert_eq!(length, (70 * 1024).to_string());
    let own = process::namespace(std::process::id().cast_signed(), "pid").unwrap();
    assert_ne!(namespace, own, "it is isolated as ever");

    let c = case.bundle("path").args(&["/bin/true"]);
    c.namespace("net", Some(&format!("/proc/self/{long}")))
        .run()
        .fails();
    let map = |n: u32| json!({"containerID": n, "hostID": 100_000 + n, "size": 1});
    let maps: Vec<_> = (0..5_000).map(map).collect();
    let c = case
        .bundle("maps")
        .namespace("user", None)
        .args(&["/bin/true"]);
    let c = c.with("/linux/uidMappings", json!(maps));
    c.with("/linux/gidMappings", json!(maps)).run().fails();
    let c = case.bundle("control").args(&["/bin/true"]);
    c.run().ok();
}

/// CVE-2024-3154, CVE-2026-53488: an annotation becomes a command of the host.
#[test]
fn annotations_do_nothing() {
    let Some(case) = Case::new(&[]) else { return };
    let canary = super::Canary::new(&case);
    let touched = canary.path.join("touched");
    let touch = format!("binary:///bin/touch?{}", touched.display());
    let c = case.bundle("c").args(&["/bin/echo", "ran"]);
    let c = c.with(
        "/annotations",
        json!({
            "org.systemd.property.ExecStartPre": format!("['/bin/touch', '{}']", touched.display()),
            "io.containerd.runtime.v2.shim.log": touch,
            "run.oci.hooks.stdout": touched,
            "run.oci.hooks.stderr": touched,
        }),
    );
    assert_eq!(c.run().ok().stdout, "ran\n");
    canary.is_untouched("annotations");
    fs::write(&touched, "").unwrap();
    assert_ne!(canary.contents(), canary.before, "the control");
}
