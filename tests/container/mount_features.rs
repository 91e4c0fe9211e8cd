//! Mounts of which few bundles have one: other ids, contents, propagation and roots.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Bundle, Case, Done, Need, binary, kernel_at_least};

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

fn id_map(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 65536}])
}

fn with_user_namespace(c: Bundle<'_>) -> Bundle<'_> {
    c.namespace("user", None)
        .with("/linux/uidMappings", id_map(100_000))
        .with("/linux/gidMappings", id_map(200_000))
}

/// A directory with a file and a mount point of another user's.
fn files_of(case: &Case, uid: u32) -> std::path::PathBuf {
    let dir = case.dir().join("files");
    fs::create_dir(&dir).unwrap();
    for path in [dir.join("file"), dir.clone()] {
        if path != dir {
            fs::write(&path, "text").unwrap();
        }
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
    }
    dir
}

#[test]
fn an_id_mapped_mount_has_the_containers_ids() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let dir = files_of(&case, 0);
    let script = "stat -c '%u:%g' /plain/file /mapped/file; touch /mapped/new && echo made;
                  touch /plain/new || echo refused";
    let c = with_user_namespace(case.bundle("c"))
        .push("/mounts", bind(&dir, "/plain", &["bind"]))
        .push("/mounts", bind(&dir, "/mapped", &["bind", "idmap"]))
        .sh(script);
    // The mount points are made in an image that belongs to the host's root.
    fs::create_dir(c.rootfs().join("plain")).unwrap();
    fs::create_dir(c.rootfs().join("mapped")).unwrap();
    assert_eq!(c.prints(), "65534:65534\n0:0\nmade\nrefused\n");
    assert_eq!(fs::metadata(dir.join("new")).unwrap().uid(), 0);
}

#[test]
fn an_id_mapped_mount_has_its_own_ids() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let dir = files_of(&case, 7);
    let mut mapped = bind(&dir, "/mapped", &["rbind", "ridmap"]);
    mapped["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    mapped["gidMappings"] = json!([{"containerID": 7, "hostID": 70, "size": 1}]);
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .push("/mounts", bind(&dir, "/plain", &["bind"]))
        .push("/mounts", mapped)
        .sh("stat -c '%u:%g' /plain/file /mapped/file");
    assert_eq!(c.prints(), "7:7\n1007:70\n");
}

#[test]
fn an_id_map_that_cannot_be_is_refused_by_name() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    // procfs cannot be id-mapped.
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .sh("true");
    let mut mapped = bind(Path::new("/proc/fs"), "/x", &["bind", "idmap"]);
    mapped["uidMappings"] = id_map(1000);
    mapped["gidMappings"] = id_map(1000);
    let index = c.config["mounts"].as_array().unwrap().len();
    let c = c.push("/mounts", mapped);
    c.create()
        .fails_saying(&[&format!("mounts[{index}]"), "EINVAL", "id-mapped"]);
    case.assert_nothing_left();
}

#[test]
fn a_tmpfs_begins_with_what_it_covers() {
    let Some(case) = Case::new(&[]) else { return };
    let tmpfs = |options: &[&str]| json!({"destination": "/opt", "type": "tmpfs", "source": "tmpfs", "options": options});
    let script = "cat /opt/dir/file; echo more >> /opt/dir/file; stat -c %a /opt/dir/file; ls /opt";
    let c = case.bundle("c").sh(script);
    fs::create_dir(c.rootfs().join("opt/dir")).unwrap();
    let file = c.rootfs().join("opt/dir/file");
    fs::write(&file, "text\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let c = c.push("/mounts", tmpfs(&["tmpcopyup", "size=1m"]));
    assert_eq!(c.prints(), "text\n640\ndir\n");
    assert_eq!(fs::read(&file).unwrap(), b"text\n", "the image was changed");
    let c = case.bundle("plain").sh("ls /opt");
    fs::create_dir(c.rootfs().join("opt/dir")).unwrap();
    let c = c.push("/mounts", tmpfs(&[]));
    assert_eq!(c.prints(), "");
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("stat -c %a /opt /tmp");
    fs::set_permissions(c.rootfs().join("opt"), fs::Permissions::from_mode(0o710)).unwrap();
    let tmpfs = |path, options: &[&str]| json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options});
    let c = c
        .push("/mounts", tmpfs("/opt", &[]))
        .push("/mounts", tmpfs("/tmp", &["mode=1770"]));
    assert_eq!(c.prints(), "710\n1770\n", "unless mode= says otherwise");
}

#[test]
fn what_is_mounted_can_be_mounted_again_with_other_options() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let dir = files_of(&case, 0);
    let again = |path: &str, options: &[&str]| json!({"destination": path, "options": options});
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .push("/mounts", bind(&dir, "/opt", &["bind"]))
        .push(
            "/mounts",
            again("/opt", &["remount", "bind", "ro", "noexec"]),
        )
        .push("/mounts", again("/dev/shm", &["remount", "size=128k"]))
        .sh("sleep 1000");
    c.run_detached().ok();
    let mounts = c.mounts();
    let at = |point: &str| mounts.iter().find(|mount| mount.point == point).unwrap();
    assert!(at("/opt").has("ro") && at("/opt").has("noexec"));
    assert!(at("/dev/shm").super_options.contains("size=128k"));
    c.delete_force().ok();
    let c = case.bundle("bad").sh("true");
    let c = c.push("/mounts", again("/etc", &["remount", "bind", "ro"]));
    c.create()
        .fails_saying(&["/etc", "nothing is mounted there"]);
}

#[test]
fn an_overlay_has_its_layers() {
    let Some(case) = Case::new(&[]) else { return };
    // Layers that are longer together than one parameter of fsconfig(2) need `lowerdir+`, Linux 6.7.
    let long = case
        .dir()
        .join("l".repeat(if kernel_at_least(6, 7) { 200 } else { 1 }));
    fs::create_dir(&long).unwrap();
    fs::write(long.join("second"), "").unwrap();
    let lower = case.dir().join("lower");
    fs::create_dir(&lower).unwrap();
    fs::write(lower.join("first"), "text\n").unwrap();
    let list = format!("lowerdir={}:{}", lower.display(), long.display());
    let c = case.bundle("c").push(
        "/mounts",
        json!({"destination": "/opt", "type": "overlay", "source": "overlay", "options": [list, "ro"]}),
    );
    let c = c.sh("ls /opt; cat /opt/first; touch /opt/new || echo refused");
    assert_eq!(c.prints(), "first\nsecond\ntext\nrefused\n");
}

#[test]
fn sysfs_without_a_network_namespace_is_the_hosts() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = with_user_namespace(case.bundle("c"))
        .no_namespace("network")
        .sh("ls -d /sys/class/net/lo; touch /sys/x || echo refused");
    assert_eq!(c.prints(), "/sys/class/net/lo\nrefused\n");
}

/// Runs the container in a mount namespace whose mount at `dir` is shared, and then looks at that.
fn run_beside_shared_mount(case: &Case, c: &Bundle<'_>, dir: &Path) -> Done {
    let script = "mount -t tmpfs tmpfs \"$DIR\" && mount --make-shared \"$DIR\" && mkdir \"$DIR/sub\" \"$DIR/root\" &&
        \"$RUNTIME\" --root \"$ROOT\" run --bundle \"$BUNDLE\" \"$ID\" && grep -o \"$DIR.*tmpfs\" /proc/self/mountinfo";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .env("DIR", dir)
        .env("RUNTIME", binary())
        .env("ROOT", case.state_root())
        .env("BUNDLE", &c.path)
        .env("ID", &c.id);
    case.finish(command)
}

fn may_mount(c: Bundle<'_>) -> Bundle<'_> {
    let all = json!(["CAP_SYS_ADMIN"]);
    c.with(
        "/process/capabilities",
        json!({"bounding": all, "effective": all, "permitted": all}),
    )
}

#[test]
fn a_mount_is_seen_outside_only_if_it_is_shared() {
    let Some(case) = Case::new(&[]) else { return };
    let dir = case.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    let seen = |name: &str, root: &str, options: &[&str]| {
        let c = may_mount(case.bundle(name))
            .with("/root/readonly", json!(false))
            .with("/linux/rootfsPropagation", json!(root))
            .push("/mounts", bind(&dir, "/vol", options))
            .sh("mount -t tmpfs tmpfs /vol/sub");
        let done = run_beside_shared_mount(&case, &c, &dir).ok();
        done.stdout.lines().count() == 2
    };
    assert!(seen("bidirectional", "rshared", &["rbind", "rshared"]));
    assert!(seen("shared", "shared", &["rbind"]));
    assert!(!seen("private", "rshared", &["rbind", "rprivate"]));
    assert!(!seen("slave", "rslave", &["rbind", "rshared"]));
    assert!(!seen("default", "", &["rbind"]));
}

/// The root's own mounts never reach the host, whatever is shared there: not even if the root itself is.
#[test]
fn a_shared_root_keeps_its_mounts_to_itself() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let dir = case.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    for propagation in [
        "shared",
        "rshared",
        "slave",
        "private",
        "unbindable",
        "runbindable",
    ] {
        let c = case
            .bundle(propagation)
            .with("/linux/rootfsPropagation", json!(propagation));
        let root = c.rootfs();
        let c = c
            .with("/root/path", json!(dir.join("root")))
            .sh("cat /proc/self/mountinfo >&2");
        let script = "mount -t tmpfs tmpfs \"$DIR\" && mount --make-shared \"$DIR\" && cp -a \"$IMAGE\" \"$DIR/root\" &&
            mount --bind \"$DIR/root\" \"$DIR/root\" && mount --make-shared \"$DIR/root\" &&
            before=$(cat /proc/self/mountinfo) && \"$RUNTIME\" --root \"$ROOT\" run --bundle \"$BUNDLE\" \"$ID\" &&
            test \"$before\" = \"$(cat /proc/self/mountinfo)\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .env("DIR", &dir)
            .env("IMAGE", root)
            .env("RUNTIME", binary())
            .env("ROOT", case.state_root())
            .env("BUNDLE", &c.path)
            .env("ID", &c.id);
        let done = case.finish(command).ok();
        let line = done
            .stderr
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/"));
        let line = line.unwrap();
        let (shared, master) = (line.contains(" shared:"), line.contains(" master:"));
        let unbindable = line.contains(" unbindable");
        let expected = match propagation {
            "shared" | "rshared" => (true, false, false),
            "slave" => (false, true, false),
            "private" => (false, false, false),
            _ => (false, false, true),
        };
        assert_eq!(
            (shared, master, unbindable),
            expected,
            "{propagation}: {line}"
        );
    }
}

#[test]
fn the_hosts_root_can_be_the_containers() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").with("/root/path", json!("/")).args(&[
        "/bin/busybox",
        "sh",
        "-c",
        "touch /tmp/x || echo read-only; echo $$",
    ]);
    let done = c.run();
    assert_eq!(done.stdout, "read-only\n1\n", "{done:#?}");
}

/// Options, and what a mount has that has them, or lacks, after "!".
const ATTRIBUTES: [(&str, &str); 23] = [
    ("ro", "ro"),
    ("rw", "rw"),
    ("nosuid", "nosuid"),
    ("suid", "!nosuid"),
    ("nodev", "nodev"),
    ("dev", "!nodev"),
    ("noexec", "noexec"),
    ("exec", "!noexec"),
    ("nodiratime", "nodiratime"),
    ("diratime", "!nodiratime"),
    ("nosymfollow", "nosymfollow"),
    ("symfollow", "!nosymfollow"),
    ("noatime", "noatime"),
    ("atime", "!noatime"),
    ("relatime", "relatime"),
    ("norelatime", "relatime"),
    ("strictatime", "!relatime"),
    ("nostrictatime", "relatime"),
    ("defaults", "rw"),
    ("silent", "rw"),
    ("loud", "rw"),
    ("iversion", "rw"),
    ("noiversion", "rw"),
];
const NOT_RECURSIVE: [&str; 5] = ["defaults", "silent", "loud", "iversion", "noiversion"];
const SUPERBLOCK: [(&str, &str); 7] = [
    ("sync", "sync"),
    ("async", "!sync"),
    ("dirsync", "dirsync"),
    ("lazytime", "lazytime"),
    ("nolazytime", "!lazytime"),
    ("mand", "rw"),
    ("nomand", "rw"),
];
const PROPAGATION: [(&str, &str); 4] = [
    ("private", ""),
    ("shared", "shared:"),
    ("slave", ""),
    ("unbindable", "unbindable"),
];

/// Every option of the runtime-spec at once, each on a mount of its own.
#[test]
fn every_option_is_taken() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let dir = files_of(&case, 0);
    let mut c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .sh("sleep 1000");
    for (option, _) in ATTRIBUTES.iter().chain(&PROPAGATION) {
        c = c.push(
            "/mounts",
            bind(&dir, &format!("/m/{option}"), &["bind", option]),
        );
        if NOT_RECURSIVE.contains(option) {
            continue;
        }
        let recursive = format!("r{option}");
        // The host's /dev has mounts below it, wherever this runs.
        let mount = bind(
            Path::new("/dev"),
            &format!("/m/{recursive}"),
            &["rbind", &recursive],
        );
        c = c.push("/mounts", mount);
    }
    for (option, _) in SUPERBLOCK {
        let point = format!("/m/{option}");
        let mount =
            json!({"destination": point, "type": "tmpfs", "source": "tmpfs", "options": [option]});
        c = c.push("/mounts", mount);
    }
    c.run_detached().ok();
    let mounts = c.mounts();
    let at = |point: String| mounts.iter().find(|mount| mount.point == point).unwrap();
    let check = |mount: &crate::support::process::Mount, what: &str| match what.strip_prefix('!') {
        Some(lacks) => assert!(!mount.has(lacks), "{mount:?} has {lacks}"),
        None => assert!(mount.has(what), "{mount:?} lacks {what}"),
    };
    for (option, what) in ATTRIBUTES {
        check(at(format!("/m/{option}")), what);
        // What only is not set leaves the host's /dev as it is, and some have that without relatime.
        let as_it_was = option != "relatime" && what == "relatime";
        if !NOT_RECURSIVE.contains(&option) && !as_it_was {
            check(at(format!("/m/r{option}")), what);
            check(at(format!("/m/r{option}/pts")), what);
        }
    }
    for (option, what) in SUPERBLOCK {
        let options = &at(format!("/m/{option}")).super_options;
        let has = |name: &str| options.split(',').any(|o| o == name);
        match what.strip_prefix('!') {
            Some(lacks) => assert!(!has(lacks), "{option}: {options}"),
            None => assert!(has(what), "{option}: {options}"),
        }
    }
    for (option, what) in PROPAGATION {
        for point in [
            format!("/m/{option}"),
            format!("/m/r{option}"),
            format!("/m/r{option}/pts"),
        ] {
            let mount = at(point);
            assert!(mount.propagation.contains(what), "{option}: {mount:?}");
            assert!(
                what == "shared:" || !mount.propagation.contains("shared:"),
                "{mount:?}"
            );
        }
    }
    c.delete_force().ok();
}

#[test]
fn without_pivot_root_the_hosts_root_is_out_of_sight() {
    let Some(case) = Case::new(&[]) else { return };
    let canary = case.dir().join("canary");
    fs::write(&canary, "host").unwrap();
    let script = format!(
        "ls /proc/1/root/bin/sh; ls -d {0} /../{0} /proc/1/root{0}; true",
        canary.display()
    );
    let c = case.bundle("c").sh(&script);
    let done = case.run([
        "run",
        "--no-pivot",
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ]);
    assert_eq!(done.stdout, "/proc/1/root/bin/sh\n", "{done:#?}");
    case.assert_nothing_left();
}

/// Neither procfs nor sysfs of the host is left beneath: with them in sight a user namespace could mount its own unmasked.
#[test]
fn without_pivot_root_no_unmasked_proc_is_in_sight() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");
    case.run([
        "run",
        "--detach",
        "--no-pivot",
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ])
    .ok();
    let text = fs::read_to_string(format!("/proc/{}/mountinfo", c.pid())).unwrap();
    let all = crate::support::process::parse_mountinfo(&text);
    let proc = all
        .iter()
        .filter(|mount| mount.fstype == "proc" && mount.point == "/proc");
    assert_eq!(proc.count(), 1, "{text}");
    c.delete_force().ok();
    assert!(
        Path::new("/proc/self").exists() && Path::new("/sys/kernel").exists(),
        "the host's were unmounted"
    );
}

/// CVE-2021-30465: a neighbour exchanges a directory of a shared volume for a link to the host while mounts are made in it.
#[test]
fn a_mount_point_that_is_exchanged_for_a_link_stays_in_the_root() {
    // runc 1.1 does not hold: it makes directories in the canary.
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let canary = case.dir().join("canary");
    fs::create_dir(&canary).unwrap();
    let volume = case.dir().join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    std::os::unix::fs::symlink(&canary, volume.join("b")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .push("/mounts", bind(&volume, "/vol", &["rbind"]))
        .sh("true");
    for n in 0..10 {
        let tmpfs =
            json!({"destination": format!("/vol/a/m{n}/x"), "type": "tmpfs", "source": "tmpfs"});
        c = c.push("/mounts", tmpfs);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (volume.join("a"), volume.join("b"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).unwrap();
            }
        });
        let mut succeeded = 0;
        for _ in 0..100 {
            // Either way: what counts is where nothing was made.
            succeeded += i32::from(c.run().status.success());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        eprintln!("{succeeded} of 100 runs succeeded");
    });
    let made: Vec<_> = fs::read_dir(&canary)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(made.is_empty(), "made on the host: {made:?}");
}

#[test]
fn file_systems_take_their_own_options() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with(
            "/mounts/0/options",
            json!(["nosuid", "nodev", "noexec", "hidepid=2"]),
        )
        .push(
            "/mounts",
            json!({"destination": "/opt", "type": "ramfs", "source": "memory", "options": ["mode=711", "ro"]}),
        )
        .sh("sleep 1000");
    c.run_detached().ok();
    let mounts = c.mounts();
    let at = |point: &str| mounts.iter().find(|mount| mount.point == point).unwrap();
    let proc = &at("/proc").super_options;
    assert!(
        proc.contains("hidepid=invisible") || proc.contains("hidepid=2"),
        "{proc}"
    );
    assert_eq!(at("/opt").fstype, "ramfs");
    assert!(at("/opt").has("ro"));
    c.delete_force().ok();
}
