//! containerd and shims are killed, and nothing is lost.

use rustix::process::{Pid, Signal, kill_process};

use super::{Containerd, Events, shims};
use crate::support::alone::alone;
use crate::support::{Case, Need, eventually, process};

#[test]
fn a_task_outlives_containerd_and_its_exit_is_kept() {
    if !alone("shim::robust::a_task_outlives_containerd_and_its_exit_is_kept") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Runp]) else {
        return;
    };
    let mut containerd = Containerd::new(&case);
    let gone = case.dir().join("gone");
    let wait = format!(
        "while ! [ -e /gone{} ]; do sleep 0.05; done; exit 42",
        "/now"
    );
    let mount = format!("type=bind,src={},dst=/gone,options=rbind", gone.display());
    std::fs::create_dir(&gone).unwrap();
    containerd.detached(&["--mount", &mount], "ends", &["sh", "-c", &wait]);
    containerd.detached(&[], "stays", &["sleep", "1000"]);
    let before = shims();
    containerd.kill();
    // One of them ends while nobody looks.
    std::fs::write(gone.join("now"), "").unwrap();
    eventually("it ends", || {
        let tasks = process::all().filter(|pid| name(*pid) == "sh");
        (tasks.count() == 0).then_some(())
    });
    containerd.start();
    assert_eq!(shims(), before);
    assert_eq!(containerd.status("stays"), "RUNNING");
    assert_eq!(containerd.status("ends"), "STOPPED");
    let deleted = containerd.ctr(&["task", "delete", "ends"]).ok();
    assert!(deleted.stderr.contains("exit code 42"), "{deleted:?}");
    containerd.ctr(&["container", "delete", "ends"]).ok();
    let exec = [
        "task",
        "exec",
        "--exec-id",
        "e",
        "stays",
        "sh",
        "-c",
        "exit 3",
    ];
    containerd.ctr(&exec).code(3);
    containerd
        .ctr(&["task", "kill", "--signal", "KILL", "stays"])
        .ok();
    containerd.wait_for_status("stays", "STOPPED");
    containerd.remove("stays");
    containerd.leaves_nothing();
}

#[test]
fn what_a_killed_shim_leaves_is_deleted() {
    if !alone("shim::robust::what_a_killed_shim_leaves_is_deleted") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Runp]) else {
        return;
    };
    let containerd = Containerd::new(&case);
    let pod = ["--annotation", "io.kubernetes.cri.sandbox-id=pod"];
    for id in ["pod", "app"] {
        containerd.detached(&pod, id, &["sleep", "54321"]);
    }
    let events = Events::new(&containerd);
    let [shim] = shims()[..] else {
        panic!("{:?}", shims());
    };
    kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).unwrap();
    // containerd notices, and executes `delete` for both.
    for id in ["pod", "app"] {
        containerd.wait_for_status(id, "none");
        containerd.ctr(&["container", "delete", id]).ok();
    }
    let text = events.wait_for("\"container_id\":\"app\",\"id\":\"app\"");
    assert!(text.contains("\"exit_status\":137"), "{text}");
    drop(events);
    let left = process::all().filter(|pid| process::runs(*pid) && name(*pid) == "sleep");
    assert_eq!(left.count(), 0);
    containerd.leaves_nothing();
}

fn name(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}
