//! events: what a container uses, and when it runs out of memory.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::{Bundle, Case, Need, process};

const NEEDS: [Need; 3] = [
    Need::Controller("memory"),
    Need::Controller("pids"),
    Need::Controller("cpu"),
];

/// Ends with the test.
struct Watch(Child);

impl Watch {
    fn new(case: &Case, c: &Bundle<'_>, options: &[&str]) -> (Self, impl Iterator<Item = Value>) {
        let mut command = case.runtime();
        command.arg("events").args(options).arg(&c.id);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let events = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        (Self(child), events)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn stats_say_what_the_container_uses() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000").with(
        "/linux/resources",
        json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 42}}),
    );
    c.run_detached().ok();
    let done = case.run(["events", "--stats", &c.id]).ok();
    let event: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], c.id);
    let data = &event["data"];
    assert_eq!(data["pids"], json!({"current": 1, "limit": 42}));
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(data["memory"]["raw"]["pgfault"].as_u64().unwrap() > 0);
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(data["cpu"]["throttling"].is_object());
    assert!(data["blkio"].is_object());
    assert!(data["hugetlb"].is_object());
    assert!(data["intel_rdt"].is_object());
    assert!(data["network_interfaces"].is_null());
    // Where the kernel counts pressure, it is in there.
    let v2 = process::cgroup_in_v2(c.pid());
    if v2.is_some_and(|dir| dir.join("cpu.pressure").exists()) && crate::support::is_runp() {
        assert!(data["cpu"]["psi"]["some"]["total"].is_u64(), "{data}");
    }
    c.delete_force().ok();
    case.run(["events", "--stats", &c.id]).fails();
}

#[test]
fn events_come_at_each_interval_and_end_with_the_container() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let (mut watch, mut events) = Watch::new(&case, &c, &["--interval", "10ms"]);
    for _ in 0..3 {
        assert_eq!(events.next().unwrap()["type"], "stats");
    }
    c.delete_force().ok();
    assert!(events.all(|event| event["type"] == "stats"));
    assert!(watch.0.wait().unwrap().success());
    case.run(["events", "--interval", "0s", &c.id])
        .fails_saying(&["0s"]);
}

#[test]
fn running_out_of_memory_is_told() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = case
        .bundle("c")
        .push("/mounts", json!({"destination": "/opt", "type": "tmpfs", "source": "tmpfs"}))
        .with("/linux/resources/memory", json!({"limit": 16_777_216, "swap": 16_777_216}))
        .sh("mkfifo /opt/go; while read line < /opt/go; do head -c 64m /dev/zero > /opt/much; done; sleep 1000");
    c.run_detached().ok();
    let (_watch, mut events) = Watch::new(&case, &c, &["--interval", "10ms"]);
    // It watches: what it prints first is no more than that.
    assert_eq!(events.next().unwrap()["type"], "stats");
    c.exec(
        &[],
        &[
            "sh",
            "-c",
            "until [ -p /opt/go ]; do :; done; echo > /opt/go",
        ],
    )
    .ok();
    let oom = events.find(|event| event["type"] == "oom").unwrap();
    assert_eq!(oom, json!({"type": "oom", "id": c.id}));
    c.delete_force().ok();
    case.assert_nothing_left();
}
