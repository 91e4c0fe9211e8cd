//! The life of tasks, with containerd 1.6 and its client `ctr`.

use std::io::Write;
use std::process::Stdio;

use super::{Containerd, Events, shims};
use crate::callers::under_a_terminal;
use crate::support::alone::alone;
use crate::support::{Case, Need};

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
    // More than the terminal and the fifo hold, to the last byte.
    let many = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let run = containerd.run(&["--rm", "--tty"], "many", &["sh", "-c", many]);
    let done = under_a_terminal(&case, &run, "").ok();
    let lines = done.stdout.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| line.contains("line ")).collect();
    let last = lines.last().copied();
    assert_eq!((lines.len(), last), (20_000, Some("line 19999")));
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
