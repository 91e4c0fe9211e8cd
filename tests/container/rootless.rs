//! The runtime without root: as a plain user, and as the root of a user namespace.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Bundle, Case, Done, Need, binary, process};

/// A user that no machine has.
const USER: u32 = 60_123;

/// Everything of the case is the user's, as if it had made it.
fn give_to_user(case: &Case) {
    fn all(path: &Path) {
        std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(path).unwrap() {
                all(&entry.unwrap().path());
            }
        }
    }
    all(case.dir());
}

/// The runtime with the case's directory as `XDG_RUNTIME_DIR`, run by the user after `before` in a mount namespace of its own.
fn run_after(case: &Case, before: &str, arguments: &[&str]) -> Done {
    let script =
        format!("{before}\nexec setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\"");
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            &script,
            "sh",
        ])
        .arg(binary())
        .args(arguments)
        .env("XDG_RUNTIME_DIR", case.dir())
        .env("RUNP_TEST", &case.token)
        .env("USER", "nobody");
    case.finish(command)
}

fn run(case: &Case, arguments: &[&str]) -> Done {
    run_after(case, "", arguments)
}

/// A bundle of the user's.
fn bundle(case: &Case) -> Bundle<'_> {
    let c = case.bundle("c");
    let config = template(case, &c);
    let c = replace(c, config);
    give_to_user(case);
    c
}

fn replace<'a>(mut c: Bundle<'a>, config: Value) -> Bundle<'a> {
    c.config = config;
    c.with("/process/terminal", json!(false))
}

/// What `spec --rootless` writes.
fn template(case: &Case, c: &Bundle<'_>) -> Value {
    let path = c.path.join("config.json");
    fs::remove_file(&path).unwrap();
    give_to_user(case);
    run(
        case,
        &["spec", "--rootless", "--bundle", c.path.to_str().unwrap()],
    )
    .ok();
    serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()
}

#[test]
fn a_plain_user_has_containers() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = bundle(&case).sh("exec sleep 1000");
    let path = c.path.to_str().unwrap();
    let id = c.id.as_str();
    run(&case, &["create", "--bundle", path, id]).ok();
    let state = case.dir().join("runp").join(id);
    assert!(
        state.join("state.json").is_file(),
        "the state is not in XDG_RUNTIME_DIR"
    );
    let listed = run(&case, &["list"]).ok().stdout;
    assert!(
        listed.contains(id) && listed.contains("created"),
        "{listed}"
    );
    run(&case, &["start", id]).ok();
    let state: Value = serde_json::from_str(&run(&case, &["state", id]).ok().stdout).unwrap();
    let pid = state["pid"].as_i64().unwrap() as i32;
    assert_eq!(
        process::status(pid, "Uid"),
        [USER.to_string().as_str(); 4].join("\t")
    );
    let inside = run(
        &case,
        &[
            "exec",
            id,
            "sh",
            "-c",
            "id -u; cat /proc/1/comm; touch /dev/shm/x && echo made",
        ],
    );
    assert_eq!(inside.ok().stdout, "0\nsleep\nmade\n");
    run(&case, &["kill", id, "KILL"]).ok();
    run(&case, &["delete", "--force", id]).ok();
    assert!(!process::runs(pid));
    assert!(!case.dir().join("runp").join(id).exists());
}

#[test]
fn a_plain_users_container_is_root_in_it_and_nobody_outside() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; cat /proc/self/setgroups; \
                  chown 1 /dev/shm 2>/dev/null || echo no other; hostname";
    let c = bundle(&case).sh(script);
    let printed = run(&case, &["run", "--bundle", c.path.to_str().unwrap(), &c.id])
        .ok()
        .stdout;
    assert_eq!(printed, format!("0\n 0 {USER} 1\ndeny\nno other\nrunc\n"));
}

#[test]
fn what_a_plain_user_may_not_have_is_refused_by_name() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let base = bundle(&case).sh("true");
    let path = base.path.to_str().unwrap().to_owned();
    let id = base.id.clone();
    let config = base.config.clone();
    let mut c = base;
    for (pointer, value, says) in [
        (
            "/linux/resources",
            json!({"pids": {"limit": 10}}),
            &["mkdir /sys/fs/cgroup", "EACCES", "delegated"][..],
        ),
        (
            "/linux/cgroupsPath",
            json!(format!("/{id}")),
            &["mkdir /sys/fs/cgroup", "EACCES"],
        ),
        (
            "/process/user",
            json!({"uid": 0, "gid": 0, "additionalGids": [0]}),
            &["set groups [0]", "EPERM", "setgroups: deny"],
        ),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": USER, "size": 2}]),
            &["linux.uidMappings", "newuidmap", "/etc/subuid"],
        ),
    ] {
        c.config = config.clone();
        c = c.with(pointer, value);
        run(&case, &["create", "--bundle", &path, &id]).fails_saying(says);
        assert!(!case.dir().join("runp").join(&id).exists(), "{pointer}");
    }
    c.config = config;
    let c = c.with("/process/args", json!(["true"]));
    run(
        &case,
        &["--rootless", "false", "run", "--bundle", &path, &c.id],
    )
    .fails_saying(&["mkdir /sys/fs/cgroup", "EACCES"]);
    run(
        &case,
        &["--rootless", "true", "run", "--bundle", &path, &c.id],
    )
    .ok();
}

/// With a range in /etc/subuid, as useradd(8) gives to everybody.
#[test]
fn a_plain_user_has_subordinate_ids() {
    let Some(case) = Case::new(&[Need::Runp, Need::Program("newuidmap")]) else {
        return;
    };
    let c = bundle(&case)
        .with(
            "/process/user",
            json!({"uid": 5, "gid": 6, "additionalGids": [7]}),
        )
        .with(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": USER, "size": 1},
                   {"containerID": 1, "hostID": 300_000, "size": 10}]),
        )
        .with(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": USER, "size": 1},
                   {"containerID": 1, "hostID": 400_000, "size": 10}]),
        )
        .sh("id -u; id -g; id -G; sleep 0; touch /dev/shm/x; stat -c %u:%g /dev/shm/x");
    let file = |name: &str, text: String| {
        let path = case.dir().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let passwd = file(
        "passwd",
        format!("root:x:0:0::/:/bin/sh\nrunptest:x:{USER}:{USER}::/:/bin/sh\n"),
    );
    let uids = file("subuid", "runptest:300000:10\n".into());
    let gids = file("subgid", "runptest:400000:10\n".into());
    let before = format!(
        "mount --bind {passwd} /etc/passwd; touch /etc/subuid /etc/subgid; mount --bind {uids} /etc/subuid; \
         mount --bind {gids} /etc/subgid"
    );
    let arguments = ["run", "--bundle", c.path.to_str().unwrap(), &c.id];
    assert_eq!(
        run_after(&case, &before, &arguments).ok().stdout,
        "5\n6\n6 7\n5:6\n"
    );
    // Not those of somebody else.
    let c = c.with(
        "/linux/uidMappings",
        json!([{"containerID": 0, "hostID": USER, "size": 1},
               {"containerID": 1, "hostID": 300_000, "size": 11}]),
    );
    run_after(
        &case,
        &before,
        &["create", "--bundle", c.path.to_str().unwrap(), &c.id],
    )
    .fails_saying(&[
        "linux.uidMappings",
        "newuidmap",
        "not allowed",
        "/etc/subuid",
    ]);
}

/// In every hierarchy a directory that is the user's, with the user in it: what systemd does for a session.
#[test]
fn a_plain_user_has_limits_where_cgroups_are_delegated() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("pids")]) else {
        return;
    };
    let name = case.id("delegated");
    let c = bundle(&case)
        .with("/linux/cgroupsPath", json!(format!("/{name}/c")))
        .with("/linux/resources", json!({"pids": {"limit": 7}}))
        .sh("sleep 1000");
    let roots = "if [ -e /sys/fs/cgroup/cgroup.procs ]; then echo /sys/fs/cgroup; exit; fi
        for d in /sys/fs/cgroup/*; do [ -e $d/cgroup.procs ] && [ ! -L $d ] && echo $d; done";
    let before = format!(
        "for d in $({roots}); do
           m=$d/{name}; mkdir -p $m/self
           for f in cpuset.cpus cpuset.mems; do [ ! -e $d/$f ] || {{ cat $d/$f > $m/$f; cat $d/$f > $m/self/$f; }}; done
           for f in $m $m/cgroup.procs $m/tasks $m/cgroup.subtree_control $m/self $m/self/cgroup.procs $m/self/tasks; do
             [ ! -e $f ] || chown {USER} $f; done
           [ ! -e $m/cgroup.subtree_control ] || ! grep -qw pids $d/cgroup.controllers || {{
             echo +pids > $d/cgroup.subtree_control; echo +pids > $m/cgroup.subtree_control; }}
           echo $$ > $m/self/cgroup.procs
         done"
    );
    let path = c.path.to_str().unwrap();
    run_after(
        &case,
        &before,
        &["run", "--detach", "--bundle", path, &c.id],
    )
    .ok();
    let state: Value = serde_json::from_str(&run(&case, &["state", &c.id]).ok().stdout).unwrap();
    let pid = state["pid"].as_i64().unwrap() as i32;
    let cgroup = process::cgroup(pid, "pids");
    assert!(
        cgroup.ends_with(format!("{name}/c")),
        "{}",
        cgroup.display()
    );
    assert_eq!(fs::read_to_string(cgroup.join("pids.max")).unwrap(), "7\n");
    run_after(&case, &before, &["delete", "--force", &c.id]).ok();
    assert!(!cgroup.exists());
    for root in Command::new("sh")
        .args(["-c", roots])
        .output()
        .unwrap()
        .stdout
        .split(|b| *b == b'\n')
    {
        use std::os::unix::ffi::OsStrExt;
        if !root.is_empty() {
            let delegated = Path::new(OsStr::from_bytes(root)).join(&name);
            let _ = fs::remove_dir(delegated.join("self"));
            fs::remove_dir(&delegated).unwrap();
        }
    }
}

/// `unshare -Ur`: uid 0 with no rights over the machine. No user namespace is in the configuration: it has one already.
#[test]
fn the_root_of_a_user_namespace_has_containers() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    // The default has group 5 there, whom that namespace does not know.
    let options = json!([
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620"
    ]);
    let c = case
        .bundle("c")
        .without("/linux/cgroupsPath")
        .with("/mounts/2/options", options);
    let c = c.sh("id -u; cat /proc/self/uid_map | tr -s ' '; ls /sys/class/net; sleep 1000");
    // The user may not enter the directory that it was built in.
    let runp = case.dir().join("runp-of-user");
    fs::copy(binary(), &runp).unwrap();
    give_to_user(&case);
    chown(c.path.join("rootfs"), Some(USER), Some(USER)).unwrap();
    let mut command = Command::new("setpriv");
    let script = "runp=$1; bundle=$2; id=$3
        $runp run --detach --bundle $bundle $id > $bundle/out; $runp exec $id id -u; $runp delete --force $id; cat $bundle/out";
    command
        .args([
            "--reuid",
            &USER.to_string(),
            "--regid",
            &USER.to_string(),
            "--clear-groups",
        ])
        .args([
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .arg(&runp)
        .arg(&c.path)
        .arg(&c.id)
        .env("XDG_RUNTIME_DIR", case.dir())
        .env("USER", "nobody");
    let printed = case.finish(command).ok().stdout;
    assert_eq!(printed, format!("0\n0\n 0 {USER} 1\nlo\n"));
    assert!(case.dir().join("runp").is_dir());
}

/// Namespaces of the user's own user namespace can only be joined from inside it.
#[test]
fn a_plain_users_containers_share_namespaces() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut c = bundle(&case)
        .push("/linux/namespaces", json!({"type": "network"}))
        .sh("sleep 1000");
    let path = c.path.to_str().unwrap().to_owned();
    let (first, second) = (case.id("first"), case.id("second"));
    run(&case, &["run", "--detach", "--bundle", &path, &first]).ok();
    let pid_of = |id: &str| {
        let state: Value = serde_json::from_str(&run(&case, &["state", id]).ok().stdout).unwrap();
        state["pid"].as_i64().unwrap() as i32
    };
    let holder = pid_of(&first);
    for (kind, file) in [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
    ] {
        c = c.namespace(kind, Some(&format!("/proc/{holder}/ns/{file}")));
    }
    c = c.without("/hostname");
    run(&case, &["run", "--detach", "--bundle", &path, &second]).ok();
    let (a, b) = (
        process::namespaces(holder),
        process::namespaces(pid_of(&second)),
    );
    for kind in ["user", "net", "ipc", "uts", "pid"] {
        assert_eq!(a[kind], b[kind], "{kind}");
    }
    assert_ne!(a["mnt"], b["mnt"]);
    let comm = run(
        &case,
        &["exec", &second, "sh", "-c", "id -u; cat /proc/1/comm"],
    );
    assert_eq!(comm.ok().stdout, "0\nsleep\n");
    for id in [&second, &first] {
        run(&case, &["delete", "--force", id]).ok();
    }
    // Nobody else's.
    let user = case.bundle("roots").sh("sleep 1000");
    user.run_detached().ok();
    let c = c.namespace("network", Some(&format!("/proc/{}/ns/net", user.pid())));
    run(&case, &["run", "--bundle", &path, &c.id]).fails_saying(&["namespace", "ns/"]);
    user.delete_force().ok();
}

/// What a mount of the host forbids stays forbidden in a user namespace: kept silently, and refused if the opposite is asked for.
#[test]
fn what_the_hosts_mount_forbids_stays_forbidden() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let dir = case.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    let before = format!(
        "mount -t tmpfs -o nosuid,nodev,noexec,mode=777 tmpfs {}",
        dir.display()
    );
    let mut c = bundle(&case).sh("grep ' /opt ' /proc/self/mountinfo | cut -d' ' -f6");
    let base = c.config.clone();
    let path = c.path.to_str().unwrap().to_owned();
    let arguments = ["run", "--bundle", &path, &c.id.clone()];
    for (options, expected) in [
        (json!(["bind"]), "rw,nosuid,nodev,noexec,relatime\n"),
        (json!(["rbind", "ro"]), "ro,nosuid,nodev,noexec,relatime\n"),
    ] {
        c.config = base.clone();
        c = c.push(
            "/mounts",
            json!({"destination": "/opt", "source": dir, "options": options}),
        );
        assert_eq!(run_after(&case, &before, &arguments).ok().stdout, expected);
    }
    for option in ["exec", "suid", "rdev", "noatime"] {
        c.config = base.clone();
        let options = json!(["rbind", option]);
        c = c.push(
            "/mounts",
            json!({"destination": "/opt", "source": dir, "options": options}),
        );
        run_after(&case, &before, &arguments).fails_saying(&["/opt", "EPERM", "user namespace"]);
    }
}
