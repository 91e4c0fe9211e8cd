//! What one container, or one call of the runtime, must not do to others: each of these went wrong once.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Case, Need, eventually, process};

#[test]
fn a_container_that_cannot_have_a_cgroup_leaves_those_alone_that_are_in_it() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let path = json!(format!("/{}", case.id("shared")));
    let first = case.bundle("first").sh("sleep 1000");
    let first = first.with("/linux/cgroupsPath", path.clone());
    first.run_detached().ok();
    let second = case.bundle("second").sh("sleep 1000");
    let second = second.with("/linux/cgroupsPath", path);
    second.create().fails();
    assert_eq!(first.status(), "running");
    first.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_masked_file_is_not_the_hosts_to_change() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mode = || fs::metadata("/dev/null").unwrap().mode();
    let before = mode();
    let c = case
        .bundle("c")
        .sh("chmod 0 /proc/keys; echo x > /proc/keys && echo written");
    let printed = c.run().ok().stdout;
    assert_eq!(mode(), before);
    assert!(
        printed.contains("written"),
        "the mask is a null device: {printed:?}"
    );
}

#[test]
fn standard_output_can_be_opened_again_by_another_user() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("echo again > /dev/stdout");
    let c = c.with("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(c.prints(), "again\n");
}

#[test]
fn signals_that_the_caller_ignores_are_not_ignored_inside() {
    let Some(case) = Case::new(&[]) else { return };
    // Not in a shell, which ignores some itself.
    let c = case
        .bundle("c")
        .args(&["/bin/busybox", "grep", "SigIgn", "/proc/self/status"]);
    let mut run = case.runtime();
    run.args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    let words: Vec<_> = std::iter::once(run.get_program())
        .chain(run.get_args())
        .collect();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' HUP INT QUIT TERM; exec \"$@\"", "sh"])
        .args(words);
    let printed = case.finish(shell).ok().stdout;
    let ignored = printed.trim().strip_prefix("SigIgn:\t").unwrap();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    // Real-time signals are the test runner's.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{printed}");
}

#[test]
fn a_read_only_tmpfs_takes_the_mounts_in_it() {
    let Some(case) = Case::new(&[]) else { return };
    let secret = case.dir().join("secret");
    fs::write(&secret, "42\n").unwrap();
    let c = case
        .bundle("c")
        .sh("cat /run/secrets/key; touch /run/x || echo read-only");
    let c = c.push(
        "/mounts",
        json!({"destination": "/run", "type": "tmpfs", "options": ["ro"]}),
    );
    let bind =
        json!({"destination": "/run/secrets/key", "source": secret, "options": ["bind", "ro"]});
    let printed = c.push("/mounts", bind).prints();
    assert!(
        printed.starts_with("42\n") && printed.contains("read-only"),
        "{printed:?}"
    );
}

#[test]
fn a_link_of_the_image_to_dev_is_no_mount_point() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let volume = case.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    let c = case.bundle("c").sh("true");
    symlink("/dev", c.rootfs().join("data")).unwrap();
    let bind = json!({"destination": "/data", "source": volume, "options": ["bind"]});
    c.push("/mounts", bind).run().fails_saying(&["/dev"]);
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
}

#[test]
fn an_exec_whose_pid_file_cannot_be_written_leaves_no_process() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    c.exec(
        &["--detach", "--pid-file", "/nonexistent/pid"],
        &["/bin/sleep", "77"],
    )
    .fails();
    let pids = case.run(["ps", "--format", "json", &c.id]).ok().stdout;
    let pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
    assert!(
        pids.iter()
            .all(|pid| *pid == c.pid() || !process::runs(*pid)),
        "{pids:?}"
    );
    c.delete_force().ok();
}

#[test]
fn a_run_removes_its_own_container_and_no_successor() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");
    let mut run = case.runtime();
    run.args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    let mut first = run.stdin(Stdio::null()).spawn().unwrap();
    eventually("the first one runs", || {
        let state = case.run(["state", &c.id]);
        state.stdout.contains("running").then_some(())
    });
    let dir = fs::File::open(case.state_root().join(&c.id)).unwrap();
    eventually("it has let go of the lock", || {
        let operation = rustix::fs::FlockOperation::NonBlockingLockShared;
        rustix::fs::flock(&dir, operation).ok()
    });
    drop(dir);
    let runtime = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(runtime, rustix::process::Signal::STOP).unwrap();
    c.delete_force().ok();
    c.run_detached().ok();
    rustix::process::kill_process(runtime, rustix::process::Signal::CONT).unwrap();
    first.wait().unwrap();
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
}
