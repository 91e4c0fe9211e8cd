//! Hooks: when, where and with what they are called, and what becomes of a container whose hook fails.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Bundle, Case, Need, eventually, is_runp, process};

const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook of the host that runs this shell script.
fn host(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// A bundle that waits, with these hooks.
fn bundle<'a>(case: &'a Case, name: &str, hooks: Value) -> Bundle<'a> {
    case.bundle(name)
        .with("/hooks", hooks)
        .with("/root/readonly", json!(false))
        .sh("sleep 1000")
}

/// Where hooks write: a host path that also is a path in the container, for startContainer.
fn shared(c: Bundle<'_>) -> (Bundle<'_>, PathBuf) {
    let dir = c.path.join("seen");
    fs::create_dir(&dir).unwrap();
    fs::create_dir_all(c.rootfs().join(dir.strip_prefix("/").unwrap())).unwrap();
    let mount = json!({"destination": dir, "source": dir, "type": "bind", "options": ["bind"]});
    (c.push("/mounts", mount), dir)
}

#[test]
fn each_is_called_once_in_order_with_the_state() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("echo program >> $SEEN/order; sleep 1000");
    let (c, seen) = shared(c.with("/root/readonly", json!(false)));
    let seen_at = seen.display();
    let env = format!("SEEN={seen_at}");
    let mut hooks = json!({});
    for kind in KINDS {
        let script = format!("cat > {seen_at}/{kind}; echo {kind} >> {seen_at}/order");
        hooks[kind] = json!([
            host(&script),
            host(&format!("echo {kind} 2 >> {seen_at}/order"))
        ]);
    }
    let c = c
        .with("/hooks", hooks)
        .with("/annotations", json!({"a": "b"}))
        .with("/process/env", json!(["PATH=/bin", env]));
    let state = |kind: &str| -> Value {
        serde_json::from_slice(&fs::read(seen.join(kind)).unwrap()).unwrap()
    };
    let order = || fs::read_to_string(seen.join("order")).unwrap();
    let twice = |kinds: &[&str]| -> String {
        kinds
            .iter()
            .map(|kind| format!("{kind}\n{kind} 2\n"))
            .collect()
    };

    c.create().ok();
    // runc calls the poststart hooks already here
    let before_start = match is_runp() {
        true => twice(&KINDS[..3]),
        false => twice(&[&KINDS[..3], &["poststart"]].concat()),
    };
    assert_eq!(order(), before_start);
    let pid = c.pid();
    c.start().ok();
    eventually("the program runs", || {
        order().contains("program").then_some(())
    });
    let started = order();
    let before_program = before_start + &twice(&["startContainer"]);
    assert!(started.starts_with(&before_program), "{started}");
    assert_eq!(started.matches("poststart").count(), 2, "{started}");
    c.kill("KILL").ok();
    c.wait_stopped();
    assert_eq!(order(), started);
    c.delete().ok();
    assert!(order().ends_with(&twice(&["poststop"])), "{}", order());

    for (kind, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let state = state(kind);
        assert_eq!(state["id"], c.id, "{kind}");
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["bundle"], c.path.to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"], json!({"a": "b"}), "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        let outside = ["prestart", "createRuntime", "poststart"].contains(&kind);
        assert!(!outside || state["pid"] == pid, "{kind}: {state}");
    }
}

#[test]
fn each_is_called_in_its_namespaces() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true");
    let (c, seen) = shared(c.with("/root/readonly", json!(false)));
    fs::write(c.rootfs().join("etc/of-the-image"), "").unwrap();
    let mut hooks = json!({});
    for kind in KINDS {
        let at = seen.join(kind);
        let at = at.display();
        hooks[kind] = json!([host(&format!(
            "{{ readlink /proc/self/ns/mnt; readlink /proc/self/ns/uts; pwd; ls /etc/of-the-image; }} > {at} 2>&1; true"
        ))]);
    }
    let c = c.with("/hooks", hooks);
    c.run().ok();
    let lines = |kind: &str| -> Vec<String> {
        let text = fs::read_to_string(seen.join(kind)).unwrap();
        text.lines().map(Into::into).collect()
    };
    let own = process::namespace(std::process::id().cast_signed(), "mnt").unwrap();
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        let lines = lines(kind);
        assert_eq!(lines[0], own, "{kind}: {lines:?}");
        assert!(lines[3].contains("No such file"), "{kind}: {lines:?}");
    }
    let (create, start) = (lines("createContainer"), lines("startContainer"));
    assert_ne!(create[0], own);
    assert_eq!(
        create[..2],
        start[..2],
        "both are in the container's namespaces"
    );
    assert!(
        create[3].contains("No such file"),
        "/ is still the host's: {create:?}"
    );
    assert_eq!(start[3], "/etc/of-the-image", "/ is the container's");
    assert_eq!(start[2], "/");
}

/// What a hook sees of its own process: no file of the runtime's, its own arguments and environment, default signals.
#[test]
fn a_hook_has_nothing_of_the_runtime() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("true");
    let (c, seen) = shared(c.with("/root/readonly", json!(false)));
    let mut hooks = json!({});
    for kind in KINDS {
        let at = seen.join(kind);
        let at = at.display();
        let script =
            format!("{{ ls /proc/self/fd; echo $0; grep SigIgn /proc/self/status; env; }} > {at}");
        hooks[kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script, "zero"], "env": ["PATH=/usr/bin:/bin", "A=b"]}]);
    }
    c.with("/hooks", hooks).run().ok();
    for kind in KINDS {
        let text = fs::read_to_string(seen.join(kind)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // 3 is the directory that ls reads, and the shell keeps its redirected standard output at 10 or above
        let files: Vec<u32> = lines.iter().map_while(|line| line.parse().ok()).collect();
        assert!(
            files.iter().all(|fd| *fd <= 3 || *fd >= 10),
            "{kind}: {text}"
        );
        assert!(files.len() <= 5, "{kind}: {text}");
        assert_eq!(lines[files.len()], "zero", "{kind}: {text}");
        let ignored = text.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
        let ignored = u64::from_str_radix(ignored.unwrap(), 16).unwrap();
        // the 31 standard signals; who runs the tests may ignore others
        assert_eq!(ignored & 0x7fff_ffff, 0, "{kind}: {text}");
        assert!(
            text.contains("A=b\n") && !text.contains("RUNP_TEST"),
            "{kind}: {text}"
        );
    }
}

#[test]
fn a_hook_that_fails_undoes_the_creation() {
    let Some(case) = Case::new(&[]) else { return };
    for kind in &KINDS[..3] {
        let stopped = case.dir().join(format!("{kind}.stopped"));
        let script = format!("touch {}", stopped.display());
        let hooks = json!({*kind: [host("echo why it is >&2; exit 3"), host("touch /tmp/never")],
            "poststop": [host(&script)]});
        let c = bundle(&case, kind, hooks);
        c.create()
            .fails_saying(&[&format!("hooks.{kind}[0]"), "exit status 3", "why it is"]);
        case.assert_nothing_left();
        assert!(stopped.exists(), "{kind}: poststop is called");
        c.run().fails();
        case.assert_nothing_left();
    }
}

#[test]
fn a_start_container_hook_that_fails_stops_the_container() {
    let Some(case) = Case::new(&[]) else { return };
    let hooks = json!({"startContainer": [{"path": "/bin/false"}]});
    let c = bundle(&case, "c", hooks).sh("touch /tmp/ran");
    c.create().ok();
    let done = c.start();
    assert!(
        !is_runp() || done.stderr.contains("hooks.startContainer[0]"),
        "{done:?}"
    );
    c.wait_stopped();
    assert!(!c.rootfs().join("tmp/ran").exists());
    c.delete().ok();
    c.run()
        .fails_saying(&["hooks.startContainer[0]", "exit status 1"]);
    case.assert_nothing_left();
}

/// runtime-spec 1.3, step 9. (runc before 1.4 calls them when it creates.)
#[test]
fn a_poststart_hook_that_fails_stops_the_container() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let stopped = case.dir().join("stopped");
    let script = format!("touch {}", stopped.display());
    let hooks = json!({"poststart": [host("exit 4")], "poststop": [host(&script)]});
    let c = bundle(&case, "c", hooks);
    c.create().ok();
    c.start()
        .fails_saying(&["hooks.poststart[0]", "exit status 4"]);
    c.wait_stopped();
    assert!(!stopped.exists());
    c.delete().ok();
    assert!(stopped.exists());
    c.run_detached()
        .fails_saying(&["hooks.poststart[0]", "exit status 4"]);
    case.assert_nothing_left();
}

#[test]
fn a_poststop_hook_that_fails_is_a_warning() {
    let Some(case) = Case::new(&[]) else { return };
    let hooks = json!({"poststop": [host("exit 5"), {"path": "/no/such/hook"}, host("exit 6")]});
    let c = bundle(&case, "c", hooks).sh("exit 7");
    let done = c.run().code(7);
    if is_runp() {
        for part in ["exit status 5", "ENOENT", "exit status 6"] {
            assert!(done.stderr.contains(part), "{done:?}");
        }
    }
    case.assert_nothing_left();
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    let Some(case) = Case::new(&[]) else { return };
    let hook = json!({"path": "/bin/sleep", "args": ["sleep", "600"], "timeout": 1});
    let c = bundle(&case, "c", json!({"createRuntime": [hook]}));
    let before = Instant::now();
    c.create()
        .fails_saying(&["hooks.createRuntime[0]", "timeout", "1 s"]);
    assert!(before.elapsed() < Duration::from_secs(20));
    case.assert_nothing_left();
}

/// Neither a hook that does not read its standard input nor one that leaves something running holds the container up.
#[test]
fn a_hook_that_reads_nothing_and_leaves_something_running_is_fine() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pid = case.dir().join("pid");
    let script = format!("exec <&-; sleep 600 & echo $! > {}", pid.display());
    let c = bundle(&case, "c", json!({"createRuntime": [host(&script)]})).sh("true");
    let c = c.with("/annotations", json!({"long": "x".repeat(1 << 20)}));
    c.run().ok();
    let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let left = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

/// As the hooks of GPU vendors do it: what createRuntime mounts into the container's root is there.
#[test]
fn what_create_runtime_mounts_in_the_container_is_there() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c");
    let gift = case.dir().join("gift");
    fs::write(&gift, "given\n").unwrap();
    fs::write(c.rootfs().join("etc/gift"), "").unwrap();
    let script = format!(
        "pid=$(sed -E 's/.*\"pid\": ?([0-9]+).*/\\1/'); exec nsenter --target $pid --mount mount --bind {} {}/etc/gift",
        gift.display(),
        c.rootfs().display()
    );
    let c = c.with("/hooks", json!({"createRuntime": [host(&script)]}));
    assert_eq!(c.args(&["/bin/cat", "/etc/gift"]).prints(), "given\n");
}
