//! What a mount becomes, and which are refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::spec::plan::IdMap;
use crate::spec::testing::{
    assert_refused, plan, plan_with_sources, planned, refusals, refusals_of, rootless, set, with,
};

fn mount(mount: Value) -> Mount {
    planned(&[("/mounts", json!([mount]))]).mounts.remove(0)
}

fn parameters(mount: &Mount) -> Vec<String> {
    let MountKind::FileSystem { parameters, .. } = &mount.kind else {
        panic!("{mount:?}");
    };
    let text = |(key, value): &(CString, Option<CString>)| match value {
        Some(value) => format!("{}={}", key.to_str().unwrap(), value.to_str().unwrap()),
        None => key.to_str().unwrap().into(),
    };
    parameters.iter().map(text).collect()
}

#[test]
fn of_the_default_configuration() {
    let mounts = planned(&[]).mounts;
    let kinds: Vec<String> = mounts
        .iter()
        .map(|mount| match &mount.kind {
            MountKind::FileSystem { fstype, source, .. } => {
                let parameters = parameters(mount).join(",");
                format!(
                    "{} {fstype:?} {source:?} {parameters}",
                    mount.destination.display()
                )
            }
            other => format!("{} {other:?}", mount.destination.display()),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "/proc \"proc\" Some(\"proc\") ",
            "/dev \"tmpfs\" Some(\"tmpfs\") mode=755,size=65536k",
            "/dev/pts \"devpts\" Some(\"devpts\") newinstance,ptmxmode=0666,mode=0620,gid=5",
            "/dev/shm \"tmpfs\" Some(\"shm\") mode=1777,size=65536k",
            "/dev/mqueue \"mqueue\" Some(\"mqueue\") ",
            "/sys \"sysfs\" Some(\"sysfs\") ",
            "/sys/fs/cgroup Cgroup",
        ]
    );
    let readonly: Vec<u64> = mounts.iter().map(|m| m.attributes.set & 1).collect();
    assert_eq!(readonly, [0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn of_the_rootless_configuration() {
    let mounts = plan(&rootless()).unwrap().mounts;
    let MountKind::Bind {
        source,
        recursive: true,
    } = &mounts[5].kind
    else {
        panic!("{:?}", mounts[5]);
    };
    assert_eq!(*source, BindSource::Path("/sys".into()));
}

#[test]
fn a_bind_mount_by_option_or_type() {
    for (mount_json, path, recursive) in [
        (
            json!({"destination": "/a", "source": "/b", "options": ["bind"]}),
            "/b",
            false,
        ),
        (
            json!({"destination": "/a", "source": "/b", "type": "bind"}),
            "/b",
            false,
        ),
        (
            json!({"destination": "/a", "source": "b", "type": "bind", "options": ["rbind"]}),
            "/bundle/b",
            true,
        ),
        // any type is meaningless for a bind mount
        (
            json!({"destination": "/a", "source": "/b", "type": "tmpfs", "options": ["rbind"]}),
            "/b",
            true,
        ),
    ] {
        match mount(mount_json.clone()).kind {
            MountKind::Bind {
                source,
                recursive: planned,
            } => {
                assert_eq!(
                    (source, planned),
                    (BindSource::Path(path.into()), recursive)
                );
            }
            other => panic!("{mount_json}: {other:?}"),
        }
    }
}

#[test]
fn an_open_file_replaces_the_source() {
    let bind = json!({"destination": "/a", "source": "/b", "options": ["bind"]});
    let config = with(&[("/mounts", json!([bind]))]);
    let file = || OwnedFd::from(std::fs::File::open("/").unwrap());
    let fd = file();
    let raw = fd.as_raw_fd();
    let plan = plan_with_sources(&config, [(0, fd)].into()).unwrap();
    assert!(matches!(
        &plan.mounts[0].kind,
        MountKind::Bind { source: BindSource::Mount(fd), .. } if *fd == raw
    ));
    for (config, index, message) in [
        (
            config,
            1,
            "config.json: mounts[1]: has a source and does not exist",
        ),
        (
            with(&[]),
            0,
            "config.json: mounts[0]: has an open source and is no bind mount",
        ),
    ] {
        let error = plan_with_sources(&config, [(index, file())].into()).unwrap_err();
        assert_eq!(error.to_string().lines().next(), Some(message));
    }
}

#[test]
fn read_only_superblocks_are_the_containers_own() {
    for (fstype, destination, options, expected) in [
        ("tmpfs", "/a", json!(["size=1k", "ro"]), vec!["size=1k"]),
        ("tmpfs", "/a", json!(["ro", "rw"]), vec![]),
        ("tmpfs", "/dev", json!(["ro"]), vec![]),
        ("ext4", "/a", json!(["sync", "ro"]), vec!["ro", "sync"]),
        ("ext4", "/a", json!(["ro"]), vec!["ro"]),
        ("sysfs", "/sys", json!(["ro"]), vec![]),
        (
            "proc",
            "/proc",
            json!(["ro", "hidepid=2"]),
            vec!["hidepid=2"],
        ),
        ("mqueue", "/a", json!(["ro"]), vec![]),
    ] {
        let mount = mount(json!({"destination": destination, "type": fstype, "options": options}));
        assert_eq!(parameters(&mount), expected, "{fstype} {options}");
    }
}

#[test]
fn destinations_are_absolute_and_clean() {
    for (destination, cleaned) in [("a/b", "/a/b"), ("/a//./b/../c/", "/a/c"), ("/../x", "/x")] {
        let mount = mount(json!({"destination": destination, "type": "tmpfs"}));
        assert_eq!(mount.destination.to_str(), Some(cleaned));
    }
}

#[test]
fn what_may_be_mounted_over_proc() {
    let bind = |source: &str| json!({"source": source, "options": ["bind"]});
    let tmpfs = json!({"type": "tmpfs"});
    let not_proc = "only a file system of type proc can be mounted on /proc";
    let inside = |path: &str| format!("\"{path}\" is inside /proc");
    for (destination, what, refused) in [
        ("/proc", json!({"type": "proc"}), None),
        ("/proc", bind("/proc"), None),
        ("/proc", bind("/proc/1/root"), Some(not_proc.into())),
        ("/proc", bind("/tmp"), Some(not_proc.into())),
        ("/proc", tmpfs.clone(), Some(not_proc.into())),
        ("proc/", tmpfs.clone(), Some(not_proc.into())),
        ("/x/../proc", tmpfs.clone(), Some(not_proc.into())),
        ("/proc", json!({"type": "cgroup"}), Some(not_proc.into())),
        (
            "/proc/self/attr",
            bind("/a"),
            Some(inside("/proc/self/attr")),
        ),
        ("/proc/sys", tmpfs.clone(), Some(inside("/proc/sys"))),
        (
            "/proc/self",
            json!({"type": "proc"}),
            Some(inside("/proc/self")),
        ),
        ("/proc/cpuinfo", bind("/a"), None),
        ("/proc/net/dev", bind("/a"), None),
        ("/proc/uptime", tmpfs.clone(), Some(inside("/proc/uptime"))),
        ("/proc/uptime/x", bind("/a"), Some(inside("/proc/uptime/x"))),
        ("/process", tmpfs, None),
        ("/sys", bind("/sys"), None),
    ] {
        let mut mount = what.clone();
        mount["destination"] = json!(destination);
        let hint = "(a false /proc deceives whoever looks into it; CVE-2019-16884, CVE-2019-19921)";
        let expected: Vec<String> = refused
            .map(|reason| format!("mounts[0].destination: {reason} {hint}"))
            .into_iter()
            .collect();
        assert_eq!(
            refusals(&[("/mounts", json!([mount]))]),
            expected,
            "{mount}"
        );
    }
}

#[test]
fn refused() {
    let row = |mount: Value, message| ("/mounts", json!([mount]), message);
    let fstype =
        "mounts[0].type: is missing (a file system's name, or the option \"bind\" or \"rbind\")";
    assert_refused(&[
        row(
            json!({"destination": "", "type": "tmpfs"}),
            "mounts[0].destination: is empty",
        ),
        row(
            json!({"destination": "/a/..", "type": "tmpfs"}),
            "mounts[0].destination: \"/a/..\" is the root (the container's root is root.path)",
        ),
        row(
            json!({"destination": "/\0", "type": "tmpfs"}),
            "mounts[0].destination: \"/\\0\" contains a NUL byte",
        ),
        row(json!({"destination": "/a"}), fstype),
        row(
            json!({"destination": "/a", "type": "none", "source": "/b"}),
            fstype,
        ),
        row(
            json!({"destination": "/a", "type": "x\0"}),
            "mounts[0].type: \"x\\0\" contains a NUL byte",
        ),
        row(
            json!({"destination": "/a", "type": "tmpfs", "source": "\0"}),
            "mounts[0].source: \"\\0\" contains a NUL byte",
        ),
        row(
            json!({"destination": "/a", "options": ["bind"]}),
            "mounts[0].source: is missing (a bind mount needs a file or directory)",
        ),
        row(
            json!({"destination": "/a", "source": "/b", "options": ["bind", "bogusopt"]}),
            "mounts[0].options[1]: unknown option \"bogusopt\" for a bind mount (see mount(8))",
        ),
        row(
            json!({"destination": "/a", "type": "cgroup2", "options": ["nsdelegate"]}),
            "mounts[0].options[0]: unknown option \"nsdelegate\" for a cgroup mount (see mount(8))",
        ),
        row(
            json!({"destination": "/a", "source": "/b", "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}),
            "mounts[0].gidMappings: is missing (a map of user ids goes with one of group ids)",
        ),
        row(
            json!({"destination": "/a", "source": "/b", "options": ["rbind", "ridmap"]}),
            "mounts[0].options: there is no user namespace whose map the mount could have (give the mount \
             uidMappings and gidMappings, or add {\"type\": \"user\"} to linux.namespaces)",
        ),
        row(
            json!({"destination": "/a", "type": "tmpfs",
                "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}),
            "mounts[0]: only a bind mount can be id-mapped (its own options (uid=, gid=) give the files of a new \
             file system their owners)",
        ),
        row(
            json!({"destination": "/a", "type": "ramfs", "options": ["tmpcopyup"]}),
            "mounts[0].options: \"tmpcopyup\" is for a tmpfs only (it fills the new file system with what it covers)",
        ),
    ]);
}

#[test]
fn id_maps_of_the_container_and_of_the_mount() {
    let bind = |options: Value| json!({"destination": "/a", "source": "/b", "options": options});
    let mut config = rootless();
    let mut own = bind(json!(["bind"]));
    own["uidMappings"] = json!([{"containerID": 0, "hostID": 7, "size": 1}]);
    own["gidMappings"] = json!([{"containerID": 5, "hostID": 8, "size": 2}]);
    let mut both = own.clone();
    both["options"] = json!(["bind", "idmap", "ridmap"]);
    let mounts = json!([
        bind(json!(["rbind", "idmap"])),
        own,
        both,
        bind(json!(["bind"]))
    ]);
    set(&mut config, "/mounts", Some(mounts));
    let line = |container_id, host_id, size| {
        vec![IdMap {
            container_id,
            host_id,
            size,
        }]
    };
    let maps = |uid, gid, recursive| {
        let ids = MountIds::Maps { uid, gid };
        Some(MountIdMap { ids, recursive })
    };
    let planned: Vec<_> = plan(&config).unwrap().mounts;
    let planned: Vec<_> = planned.into_iter().map(|mount| mount.id_map).collect();
    assert_eq!(
        planned,
        [
            maps(line(0, 1000, 1), line(0, 1000, 1), false),
            maps(line(0, 7, 1), line(5, 8, 2), false),
            maps(line(0, 7, 1), line(5, 8, 2), true),
            None,
        ]
    );
    let user = json!({"type": "user", "path": "/proc/7/ns/user"});
    set(&mut config, "/linux/namespaces/4", Some(user));
    let planned = plan(&config).unwrap().mounts.remove(0).id_map.unwrap();
    assert_eq!(planned.ids, MountIds::Namespace("/proc/7/ns/user".into()));
}

#[test]
fn ids_of_a_file_system_must_be_mapped() {
    let mut config = rootless();
    let options = json!(["newinstance", "gid=5", "uid=0"]);
    let pts = json!([{"destination": "/dev/pts", "type": "devpts", "options": options}]);
    set(&mut config, "/mounts", Some(pts));
    assert_eq!(
        refusals_of(&config),
        [
            "mounts[0].options: \"gid=5\": 5 is not in linux.gidMappings (map it, or leave the option out)"
        ]
    );
}

#[test]
fn a_remount_changes_what_is_there() {
    let mount = |options: Value| mount(json!({"destination": "/proc/sys", "options": options}));
    for (options, expected) in [
        (json!(["remount", "bind", "ro"]), 0),
        (json!(["remount", "ro", "size=1k"]), 1),
    ] {
        let mount = mount(options);
        assert_eq!(mount.attributes.set, 1);
        match mount.kind {
            MountKind::Remount { parameters } => assert_eq!(parameters.len(), expected),
            other => panic!("{other:?}"),
        }
    }
}
