//! Mounts, devices, masked and read-only paths, as mountinfo and the program see them.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{Bundle, Case, Need, process::Mount};

/// The mount at `point`, of a container that is up.
fn at<'a>(mounts: &'a [Mount], point: &str) -> &'a Mount {
    let found = mounts.iter().rev().find(|m| m.point == point);
    found.unwrap_or_else(|| panic!("no mount at {point} in {mounts:#?}"))
}

fn bind(source: &str, destination: &str, options: &[&str]) -> serde_json::Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

#[test]
fn the_mounts_of_the_default_bundle_have_their_options() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let mounts = c.mounts();

    assert!(at(&mounts, "/").has("ro"), "root.readonly");
    assert_eq!(at(&mounts, "/proc").fstype, "proc");
    let dev = at(&mounts, "/dev");
    assert_eq!(dev.fstype, "tmpfs");
    assert!(dev.has("nosuid"));
    assert!(dev.super_options.contains("mode=755"), "{dev:?}");
    assert!(dev.super_options.contains("size=65536k"), "{dev:?}");
    let pts = at(&mounts, "/dev/pts");
    assert!(pts.fstype == "devpts" && pts.has("nosuid") && pts.has("noexec"));
    assert!(pts.super_options.contains("ptmxmode=666") && pts.super_options.contains("gid=5"));
    let shm = at(&mounts, "/dev/shm");
    assert!(shm.has("nosuid") && shm.has("noexec") && shm.has("nodev"));
    assert_eq!(at(&mounts, "/dev/mqueue").fstype, "mqueue");
    let sys = at(&mounts, "/sys");
    assert!(sys.fstype == "sysfs" && sys.has("ro") && sys.has("nosuid"));
    let shared: Vec<_> = mounts
        .iter()
        .filter(|m| m.propagation.contains("shared"))
        .collect();
    assert!(shared.is_empty(), "mounts that the host sees: {shared:?}");
    c.delete_force().ok();
}

#[test]
fn nothing_of_the_host_is_mounted_in_the_container() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let points: Vec<_> = c.mounts().into_iter().map(|m| m.point).collect();
    let known = |p: &str| p == "/" || ["/proc", "/dev", "/sys"].iter().any(|d| p.starts_with(d));
    assert!(points.iter().all(|p| known(p)), "{points:?}");
    assert!(
        c.exec(&[], &["ls", "/"])
            .ok()
            .stdout
            .lines()
            .all(|l| l != "work" && l != "home")
    );
    c.delete_force().ok();
}

#[test]
fn bind_mounts_have_each_option() {
    let Some(case) = Case::new(&[]) else { return };
    let source = case.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "shared\n").unwrap();
    let path = source.to_str().unwrap();
    let mut c = case
        .bundle("c")
        .sh("sleep 1000")
        .with("/root/readonly", json!(false));
    // Where, with which options, what the mount then has and lacks.
    type Row = (
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    let each: [Row; 7] = [
        (
            "/opt/rw",
            &["bind"],
            &["rw"],
            &["ro", "nosuid", "nodev", "noexec"],
        ),
        ("/opt/ro", &["rbind", "ro"], &["ro"], &["nosuid"]),
        (
            "/opt/nosuid",
            &["bind", "nosuid", "nodev"],
            &["nosuid", "nodev", "rw"],
            &["noexec"],
        ),
        (
            "/opt/noexec",
            &["bind", "noexec", "noatime"],
            &["noexec", "noatime"],
            &["ro"],
        ),
        (
            "/opt/nodiratime",
            &["bind", "nodiratime"],
            &["nodiratime"],
            &["ro"],
        ),
        (
            "/opt/relatime",
            &["bind", "relatime"],
            &["relatime"],
            &["noatime"],
        ),
        (
            "/opt/last",
            &["bind", "ro", "rw", "nosuid", "suid"],
            &["rw"],
            &["ro", "nosuid"],
        ),
    ];
    for (point, options, ..) in each {
        c = c.push("/mounts", bind(path, point, options));
    }
    c.run_detached().ok();
    let mounts = c.mounts();
    for (point, _, has, lacks) in each {
        let mount = at(&mounts, point);
        assert!(
            has.iter().all(|o| mount.has(o)),
            "{mount:?} should have {has:?}"
        );
        assert!(
            !lacks.iter().any(|o| mount.has(o)),
            "{mount:?} should lack {lacks:?}"
        );
    }
    assert_eq!(
        c.exec(&[], &["cat", "/opt/ro/file"]).ok().stdout,
        "shared\n"
    );
    c.exec(&[], &["touch", "/opt/ro/new"]).fails();
    c.exec(&[], &["touch", "/opt/rw/new"]).ok();
    assert!(source.join("new").exists());
    c.delete_force().ok();
}

#[test]
fn a_file_is_bound_onto_a_file_that_is_made() {
    let Some(case) = Case::new(&[]) else { return };
    let source = case.dir().join("hosts");
    fs::write(&source, "127.0.0.1 me\n").unwrap();
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .push(
            "/mounts",
            bind(
                source.to_str().unwrap(),
                "/etc/deep/er/hosts",
                &["bind", "ro"],
            ),
        )
        .args(&["/bin/cat", "/etc/deep/er/hosts"]);
    assert_eq!(c.prints(), "127.0.0.1 me\n");
    assert!(c.rootfs().join("etc/deep/er/hosts").is_file());
}

/// A mount covers what was mounted at its place before, by whatever path that is reached; later mounts go on top.
#[test]
fn mounts_go_on_top_of_one_another() {
    let Some(case) = Case::new(&[]) else { return };
    let source = case.dir().join("file");
    fs::write(&source, "bound\n").unwrap();
    let source = source.to_str().unwrap();
    let tmpfs =
        |destination: &str| json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .push("/mounts", tmpfs("/tmp"))
        .push("/mounts", tmpfs("/tmp/in"))
        .push("/mounts", bind(source, "/tmp/in/below", &["bind"]))
        .push("/mounts", tmpfs("/tmp/in"))
        .push("/mounts", bind(source, "/tmp/in/file", &["bind"]))
        .push("/mounts", tmpfs("/opt"))
        .push("/mounts", bind(source, "/opt/covered", &["bind"]))
        .push("/mounts", tmpfs("/link"))
        .push("/mounts", bind(source, "/opt/file", &["bind"]))
        .sh("ls /tmp/in /opt; cat /tmp/in/file /opt/file");
    symlink("/opt", c.rootfs().join("link")).unwrap();
    let out = c.prints();
    assert_eq!(out, "/opt:\nfile\n\n/tmp/in:\nfile\nbound\nbound\n");
}

#[test]
fn a_link_of_procfs_is_masked_where_it_leads() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with("/linux/maskedPaths", json!(["/proc/net", "/proc/nothing"]))
        .with(
            "/linux/readonlyPaths",
            json!(["/proc/mounts", "/proc/nothing"]),
        )
        .sh("ls -A /proc/1/net | wc -l; head -n 1 /proc/mounts | wc -l");
    assert_eq!(c.prints(), "0\n1\n");
}

#[test]
fn tmpfs_takes_its_size_and_mode() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000").push(
        "/mounts",
        json!({"destination": "/opt", "type": "tmpfs", "source": "scratch",
               "options": ["nosuid", "nodev", "size=128k", "mode=0711"]}),
    );
    c.run_detached().ok();
    let mounts = c.mounts();
    let opt = at(&mounts, "/opt");
    assert!(opt.has("nosuid") && opt.has("nodev"), "{opt:?}");
    assert!(opt.super_options.contains("size=128k") && opt.super_options.contains("mode=711"));
    c.exec(&[], &["sh", "-c", "cat /dev/zero > /opt/much"])
        .fails();
    c.delete_force().ok();
}

#[test]
fn recursive_read_only_reaches_the_mounts_below() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    // The outer container mounts a tmpfs below /opt; a plain rbind of it would stay writable there.
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .sh("sleep 1000");
    let c = c.push("/mounts", bind("/dev", "/opt/ro", &["rbind", "ro"]));
    let c = c.push("/mounts", bind("/dev", "/opt/rro", &["rbind", "rro"]));
    c.run_detached().ok();
    let mounts = c.mounts();
    let below = |dir: &str| {
        let prefix = format!("{dir}/");
        mounts
            .iter()
            .filter(|m| m.point.starts_with(&prefix))
            .map(|m| m.has("ro"))
            .collect::<Vec<_>>()
    };
    assert!(at(&mounts, "/opt/rro").has("ro"));
    assert!(below("/opt/rro").iter().all(|ro| *ro), "{mounts:#?}");
    assert!(below("/opt/ro").iter().all(|ro| !*ro), "{mounts:#?}");
    c.delete_force().ok();
}

#[test]
fn the_default_devices_are_there_and_work() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh(
        "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' /dev/$d; done
         for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done
         echo x > /dev/null && head -c 1 /dev/zero | wc -c; echo x > /dev/full || echo full",
    );
    let out = c.prints();
    for line in [
        "/dev/null 1:3 666 character special file",
        "/dev/zero 1:5 666 character special file",
        "/dev/full 1:7 666 character special file",
        "/dev/random 1:8 666 character special file",
        "/dev/urandom 1:9 666 character special file",
        "/dev/tty 5:0 666 character special file",
        "fd /proc/self/fd",
        "stdin /proc/self/fd/0",
        "stdout /proc/self/fd/1",
        "stderr /proc/self/fd/2",
        "ptmx pts/ptmx",
        "full",
    ] {
        assert!(out.lines().any(|l| l == line), "{line:?} is not in {out}");
    }
}

#[test]
fn a_device_that_is_listed_is_made_and_others_are_not_allowed() {
    let Some(case) = Case::new(&[Need::Controller("devices")]) else {
        return;
    };
    let script = "stat -c '%t:%T %a %u:%g' /dev/kind; mknod /tmp/disk b 259 0 && cat /tmp/disk";
    let c = case
        .bundle("c")
        .push(
            "/mounts",
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}),
        )
        .with(
            "/linux/devices",
            json!([{"path": "/dev/kind", "type": "c", "major": 10, "minor": 229,
                                        "fileMode": 0o640, "uid": 3, "gid": 4}]),
        )
        .sh(script);
    let c = all_capabilities(c);
    let done = c.run();
    assert!(!done.status.success());
    assert_eq!(done.stdout, "a:e5 640 3:4\n");
    assert!(done.stderr.contains("Operation not permitted"), "{done:?}");
}

/// With mknod among them.
fn all_capabilities(c: Bundle<'_>) -> Bundle<'_> {
    let caps = json!([
        "CAP_MKNOD",
        "CAP_DAC_OVERRIDE",
        "CAP_CHOWN",
        "CAP_SYS_ADMIN"
    ]);
    c.with(
        "/process/capabilities",
        json!({"bounding": caps, "effective": caps, "permitted": caps}),
    )
}

#[test]
fn masked_paths_are_empty_and_readonly_paths_read_only() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with(
            "/linux/maskedPaths",
            json!(["/etc/passwd", "/opt", "/proc/keys", "/no/such"]),
        )
        .with("/linux/readonlyPaths", json!(["/proc/sys", "/tmp"]))
        .with("/root/readonly", json!(false))
        .sh(
            "wc -c < /etc/passwd; ls -A /opt; wc -c < /proc/keys; touch /tmp/x || echo refused
             echo 1 > /proc/sys/net/ipv4/ip_forward || echo refused; touch /etc/free && echo free",
        );
    fs::write(c.rootfs().join("opt/secret"), "s").unwrap();
    let out = c.prints();
    assert_eq!(out, "0\n0\nrefused\nrefused\nfree\n");
}

#[test]
fn the_default_masks_hide_what_they_should() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh(
        "for f in kcore keys timer_list; do [ -e /proc/$f ] && head -c 1 /proc/$f | wc -c; done
         ls -A /proc/acpi /sys/firmware 2>/dev/null | grep -v :",
    );
    let done = c.run();
    assert!(
        done.stdout.lines().all(|l| l.trim() == "0" || l.is_empty()),
        "{done:?}"
    );
}

#[test]
fn the_root_is_writable_only_when_asked_for() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("touch /new");
    assert!(c.run().fails().contains("Read-only file system"));
    let c = c.with("/root/readonly", json!(false));
    c.run().ok();
    assert!(c.rootfs().join("new").exists());
}

#[test]
fn a_mount_point_that_leads_out_by_a_symlink_stays_in_the_root() {
    let Some(case) = Case::new(&[]) else { return };
    let canary = case.dir().join("canary");
    fs::create_dir(&canary).unwrap();
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .push(
            "/mounts",
            json!({"destination": "/opt/link/x", "type": "tmpfs", "source": "tmpfs"}),
        )
        .sh("grep -c /opt/link/x /proc/self/mountinfo || true");
    symlink(&canary, c.rootfs().join("opt/link")).unwrap();
    c.run(); // refused, or mounted at the canary's path inside the root
    assert_eq!(
        fs::read_dir(&canary).unwrap().count(),
        0,
        "the canary was touched"
    );
    case.assert_nothing_left();
}

#[test]
fn a_cgroup_mount_shows_only_the_containers_own() {
    let Some(case) = Case::new(&[Need::Controller("pids")]) else {
        return;
    };
    let c = case
        .bundle("c")
        .namespace("cgroup", None)
        .push("/mounts", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}))
        .sh("find /sys/fs/cgroup -name '*process_api*'; cat /proc/self/cgroup; touch /sys/fs/cgroup/x");
    let done = c.run();
    assert!(!done.status.success(), "the cgroup mount is writable");
    assert!(!done.stdout.contains("process_api"), "{done:?}");
    assert!(done.stdout.lines().all(|l| l.ends_with(":/")), "{done:?}");
}

#[test]
fn an_option_that_is_unknown_is_refused_or_given_to_the_file_system() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true").push(
        "/mounts",
        json!({"destination": "/opt", "type": "tmpfs", "source": "t", "options": ["bogusopt"]}),
    );
    c.create().fails_saying(&["bogusopt"]);
    case.assert_nothing_left();
}
