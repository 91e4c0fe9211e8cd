//! A false `/proc`, `/sys`, or `/dev/null`, and what is written to or hidden behind it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use super::Canary;
use crate::support::{Case, Need};

fn tmpfs(destination: &str) -> Value {
    json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"})
}

/// CVE-2019-16884, CVE-2023-28642: something else over `/proc` or a part of it, also through a link of the image.
#[test]
fn nothing_is_mounted_over_proc() {
    // runc 1.1 mounts a tmpfs over /proc/self/attr.
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let source = case.dir().join("source");
    fs::create_dir(&source).unwrap();
    let bind = |destination: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
    let with = |name: &str, mount: Value| {
        let c = case.bundle(name).args(&["/bin/true"]);
        symlink("/proc/self/attr", c.rootfs().join("link")).unwrap();
        c.push("/mounts", mount)
    };
    with("control-bind", bind("/opt")).run().ok();
    with("control-tmpfs", tmpfs("/opt")).run().ok();
    let false_ones = [
        bind("/proc"),
        tmpfs("/proc"),
        bind("/proc/self/attr"),
        tmpfs("/proc/self/attr"),
        bind("/link"),
        tmpfs("/proc/sys"),
    ];
    for (n, mount) in false_ones.into_iter().enumerate() {
        with(&format!("c{n}"), mount).run().fails();
    }
}

/// CVE-2025-52881: what the runtime writes to procfs goes through one of its own, by descriptor.
#[test]
fn nothing_of_proc_is_opened_by_its_name_inside() {
    let Some(case) = Case::new(&[Need::Strace, Need::Runp]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "33"}))
        .args(&["/bin/cat", "/proc/sys/net/ipv4/ip_default_ttl"]);
    let trace = case.dir().join("trace");
    let runtime = case.runtime();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", trace.to_str().unwrap()]);
    strace.arg(runtime.get_program()).args(runtime.get_args());
    strace.args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    assert_eq!(case.finish(strace).ok().stdout, "33\n");
    let trace = fs::read_to_string(trace).unwrap();
    let inside = trace.split_once("pivot_root(").unwrap().1;
    let by_name = |line: &&str| {
        let open = ["open(\"/proc/", "openat(AT_FDCWD, \"/proc/"];
        open.iter().any(|open| line.contains(open))
    };
    let program = inside.find(" execve(").unwrap();
    let opened: Vec<_> = inside[..program].lines().filter(by_name).collect();
    assert!(opened.is_empty(), "{opened:#?}");
    // The control: the program itself does it by name.
    assert!(inside[program..].lines().any(|line| by_name(&line)));
}

/// CVE-2025-31133: a path is hidden behind the image's `/dev/null`.
#[test]
fn a_path_is_masked_by_the_real_null_device_or_not_at_all() {
    // runc 1.1 has this hole.
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let masked = |name: &str| {
        let c = case
            .bundle(name)
            .args(&["/bin/stat", "-c", "%t:%T", "/proc/uptime"]);
        c.with("/linux/maskedPaths", json!(["/proc/uptime"]))
    };
    assert_eq!(masked("control").prints(), "1:3\n");
    let mut c = masked("c");
    // Without a mount on /dev it is the image's.
    let mounts = c.config.pointer_mut("/mounts").unwrap();
    let on_dev = |m: &Value| m["destination"].as_str().unwrap().starts_with("/dev");
    mounts.as_array_mut().unwrap().retain(|m| !on_dev(m));
    let c = c.with("/root/readonly", json!(false));
    fs::write(c.rootfs().join("gadget"), "gadget").unwrap();
    symlink("/gadget", c.rootfs().join("dev/null")).unwrap();
    let done = c.run();
    assert!(!done.status.success() || done.stdout == "1:3\n", "{done:?}");
    let gadget = fs::read(c.rootfs().join("gadget")).unwrap();
    assert_eq!(gadget, b"gadget");
}

/// GHSA-7ww5-4wqc-m92c and others: what the default config.json masks tells nothing inside.
#[test]
fn masked_paths_are_empty() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c");
    let all = c.config["linux"]["maskedPaths"].as_array().unwrap().clone();
    let there: Vec<_> = all
        .iter()
        .map(|path| path.as_str().unwrap())
        .filter(|path| fs::metadata(path).is_ok())
        .collect();
    assert!(!there.is_empty(), "this machine has none of {all:?}");
    let script = format!(
        "for p in {}; do if [ -d $p ]; then ls -A $p; else cat $p; fi; done; echo end",
        there.join(" ")
    );
    assert_eq!(c.sh(&script).prints(), "end\n");
    let bare = case.bundle("bare").with("/linux/maskedPaths", json!([]));
    assert_ne!(bare.sh(&script).prints(), "end\n", "the control");
}

/// CVE-2019-19921, CVE-2023-27561: `/proc` or `/sys` is a link of the image, to a directory of the host or its own.
#[test]
fn links_in_place_of_proc_and_sys_lead_nowhere() {
    let Some(case) = Case::new(&[]) else { return };
    let canary = Canary::new(&case);
    for name in ["proc", "sys"] {
        let c = case.bundle(name).args(&["/bin/true"]);
        fs::remove_dir(c.rootfs().join(name)).unwrap();
        symlink(&canary.path, c.rootfs().join(name)).unwrap();
        c.run().fails();
        canary.is_untouched(name);
    }
}
