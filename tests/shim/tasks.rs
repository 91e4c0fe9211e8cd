//! The life of tasks, with containerd 1.6 and its client `ctr`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::cri::{IMAGE, image};
use super::{Containerd, Events, RUNTIME, shims};
use crate::callers::under_a_terminal;
use crate::support::alone::alone;
use crate::support::{Case, Need, eventually};

/// A world with containerd, for a test that is alone.
macro_rules! world {
    ($case:ident, $containerd:ident, $test:literal) => {
        if !alone(concat!("shim::tasks::", $test)) {
            return;
        }
        let Some($case) = Case::new(&[Need::Program("containerd"), Need::Runp]) else {
            return;
        };
        let $containerd = Containerd::new(&$case);
    };
}

#[test]
fn a_task_writes_reads_and_exits() {
    world!(case, containerd, "a_task_writes_reads_and_exits");
    let script = ["sh", "-c", "echo $A; echo err >&2; exit 9"];
    let run = containerd.run(&["--rm", "--env", "A=b"], "once", &script);
    let done = case.finish(run).code(9);
    assert_eq!((&*done.stdout, &*done.stderr), ("b\n", "err\n"));

    let mut cat = containerd.run(&["--rm"], "cat", &["cat"]);
    let mut cat = cat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // ctr forgets to close stdin if that ends before the task has begun.
    containerd.wait_for_status("cat", "RUNNING");
    let big = "0123456789abcdef".repeat(20_000);
    let mut stdin = cat.stdin.take().unwrap();
    let sent = big.clone();
    let writer = std::thread::spawn(move || stdin.write_all(sent.as_bytes()).unwrap());
    let output = cat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), big);

    let failed = case
        .finish(containerd.run(&["--rm"], "no", &["nosuch"]))
        .fails();
    let parts = ["OCI runtime create failed", "nosuch"];
    assert!(parts.iter().all(|part| failed.contains(part)), "{failed}");
    containerd.leaves_nothing();
}

#[test]
fn a_task_has_a_terminal() {
    world!(case, containerd, "a_task_has_a_terminal");
    let script = "tty; stty size; read line; echo got $line; exit 5";
    let run = containerd.run(&["--rm", "--tty"], "tty", &["sh", "-c", script]);
    let done = under_a_terminal(&case, &run, "hello\n").code(5);
    assert!(done.stdout.contains("/dev/pts/0"), "{done:?}");
    assert!(done.stdout.contains("got hello"), "{done:?}");
    containerd.leaves_nothing();
}

#[test]
fn a_tasks_life() {
    world!(case, containerd, "a_tasks_life");
    containerd.detached(&["--memory-limit", "33554432"], "life", &["sleep", "1000"]);
    assert_eq!(containerd.status("life"), "RUNNING");
    let task = |args: &[&str]| containerd.ctr(&[&["task"], args].concat());
    let exec = [
        "exec",
        "--exec-id",
        "e",
        "--user",
        "1000",
        "--cwd",
        "/tmp",
        "life",
    ];
    let done = task(&[&exec[..], &["sh", "-c", "id -u; pwd; exit 4"]].concat()).code(4);
    assert_eq!(done.stdout, "1000\n/tmp\n");
    let failed = task(&["exec", "--exec-id", "f", "life", "nosuch"]).fails();
    assert!(failed.contains("nosuch"), "{failed}");
    let exec = ["task", "exec", "--tty", "--exec-id", "t", "life"];
    let script = ["sh", "-c", "sleep 0.3; tty; exit 6"];
    let exec = containerd.client(&[&exec[..], &script].concat());
    let done = under_a_terminal(&case, &exec, "").code(6);
    assert!(done.stdout.contains("/dev/pts/"), "{done:?}");
    assert!(task(&["ps", "life"]).ok().stdout.lines().count() > 1);
    let metrics = task(&["metrics", "life"]).ok().stdout;
    assert!(metrics.contains("33554432"), "{metrics}");

    task(&["pause", "life"]).ok();
    assert_eq!(containerd.status("life"), "PAUSED");
    task(&["resume", "life"]).ok();
    assert_eq!(containerd.status("life"), "RUNNING");
    assert!(
        task(&["delete", "life"])
            .fails()
            .contains("must be stopped")
    );

    task(&["kill", "--signal", "KILL", "life"]).ok();
    containerd.wait_for_status("life", "STOPPED");
    task(&["delete", "life"]).code(0);
    assert_eq!(containerd.status("life"), "none");
    containerd.ctr(&["container", "delete", "life"]).ok();
    containerd.leaves_nothing();
}

#[test]
fn containers_of_a_pod_share_one_shim() {
    world!(_case, containerd, "containers_of_a_pod_share_one_shim");
    let pod = ["--annotation", "io.kubernetes.cri.sandbox-id=pod"];
    for id in ["pod", "app", "other"] {
        containerd.detached(&pod, id, &["sleep", "1000"]);
    }
    assert_eq!(shims().len(), 1);
    containerd.detached(&[], "alone", &["sleep", "1000"]);
    assert_eq!(shims().len(), 2);
    // The first one is the sandbox; the others go on without it.
    for id in ["pod", "app", "other", "alone"] {
        containerd
            .ctr(&["task", "kill", "--signal", "KILL", id])
            .ok();
        containerd.wait_for_status(id, "STOPPED");
        containerd.remove(id);
    }
    containerd.leaves_nothing();
}

#[test]
fn events_come_in_order() {
    world!(_case, containerd, "events_come_in_order");
    let events = Events::new(&containerd);
    let script = ["sh", "-c", "exit 3"];
    containerd.detached(&[], "life", &["sleep", "1000"]);
    let exec = ["task", "exec", "--exec-id", "e", "life"];
    containerd.ctr(&[&exec[..], &script].concat());
    containerd.ctr(&["task", "pause", "life"]).ok();
    containerd.ctr(&["task", "resume", "life"]).ok();
    containerd
        .ctr(&["task", "kill", "--signal", "KILL", "life"])
        .ok();
    containerd.wait_for_status("life", "STOPPED");
    containerd.remove("life");
    let text = events.wait_for("/containers/delete");
    let topics: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').find(|word| word.starts_with("/tasks/")))
        .collect();
    let expected = [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "delete",
        "paused",
        "resumed",
        "exit",
        "delete",
    ];
    assert_eq!(
        topics,
        expected.map(|topic| format!("/tasks/{topic}")),
        "{text}"
    );
    drop(events);
    containerd.leaves_nothing();
}

#[test]
fn a_task_without_a_pid_namespace_leaves_no_process() {
    world!(
        case,
        containerd,
        "a_task_without_a_pid_namespace_leaves_no_process"
    );
    // The second process is in a session of its own, and the first one does not wait for it.
    let script = "setsid sleep 12345 & sleep 0.2; exit 7";
    let run = containerd.run(
        &["--rm", "--with-ns", "pid:/proc/1/ns/pid"],
        "shared",
        &["sh", "-c", script],
    );
    case.finish(run).code(7);
    containerd.leaves_nothing();
}

#[test]
fn output_goes_to_files_and_programs() {
    world!(case, containerd, "output_goes_to_files_and_programs");
    let script = ["sh", "-c", "echo out; echo err >&2"];
    let file = case.dir().join("logs/file");
    let uri = format!("file://{}", file.display());
    containerd.detached(&["--log-uri", &uri], "file", &script);
    containerd.wait_for_status("file", "STOPPED");
    assert_eq!(fs::read_to_string(&file).unwrap(), "out\nerr\n");
    containerd.remove("file");

    let logger = case.dir().join("logger");
    let program = "#!/bin/sh\nexec 5>&-\n(cat <&3; cat <&4) > $2.part\n\
                   echo $CONTAINER_NAMESPACE/$CONTAINER_ID $1 >> $2.part; mv $2.part $2\n";
    fs::write(&logger, program).unwrap();
    fs::set_permissions(&logger, fs::Permissions::from_mode(0o755)).unwrap();
    let log = case.dir().join("logs/program");
    let uri = format!("binary://{}?to={}", logger.display(), log.display());
    containerd.detached(&["--log-uri", &uri], "program", &script);
    containerd.wait_for_status("program", "STOPPED");
    let text = eventually("the logger ends", || fs::read_to_string(&log).ok());
    assert_eq!(text, "out\nerr\ntest/program to\n");
    containerd.remove("program");

    let run = containerd.run(
        &["--detach", "--log-uri", "binary:///nosuch"],
        "none",
        &script,
    );
    let failed = case.finish(run).fails();
    assert!(failed.contains("/nosuch"), "{failed}");
    containerd.ctr(&["container", "delete", "none"]);
    containerd.leaves_nothing();
}

#[test]
fn an_image_is_unpacked_and_written_to() {
    world!(case, containerd, "an_image_is_unpacked_and_written_to");
    let archive = image(&case);
    containerd
        .ctr(&["image", "import", archive.to_str().unwrap()])
        .ok();
    let cgroup = format!("/{}/image", case.token);
    let run = ["run", "--runtime", RUNTIME, "--cgroup", &cgroup, "--rm"];
    let script = "echo new > /bin/new && cat /bin/new; grep -c ' / overlay ' /proc/mounts";
    let container = [IMAGE, "image", "/bin/sh", "-c", script];
    let done = containerd.ctr(&[&run[..], &container].concat()).ok();
    assert_eq!(done.stdout, "new\n1\n");
    // Nobody on the host sees that mount.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("rootfs"), "{mounts}");
    let run = [&run[..], &["--read-only"]].concat();
    let container = [IMAGE, "image", "/bin/sh", "-c", "touch /bin/x"];
    containerd.ctr(&[&run[..], &container].concat()).fails();
    containerd.leaves_nothing();
}

#[test]
fn memory_that_runs_out_is_told() {
    world!(_case, containerd, "memory_that_runs_out_is_told");
    let events = Events::new(&containerd);
    let script = "x=a; while :; do x=$x$x; done";
    containerd.detached(
        &["--memory-limit", "16777216"],
        "greedy",
        &["sh", "-c", script],
    );
    containerd.wait_for_status("greedy", "STOPPED");
    let text = events.wait_for("/tasks/oom");
    assert!(text.contains("\"exit_status\":137"), "{text}");
    drop(events);
    containerd.remove("greedy");
    containerd.leaves_nothing();
}
