//! What is typed into a container: `stdin`, `stdinOnce`, `pod attach`.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::pod::{container_status, is_running, terminated};
use crate::support::{Begun, Case, Need, Pod, eventually, process, sh};

const SCRIPT: &str = "while read -r line; do echo \"got $line\"; done; echo over";

fn reader(name: &str, fields: &[&str]) -> Value {
    let mut container = sh(name, SCRIPT);
    for field in fields {
        container[field] = json!(true);
    }
    container
}

/// Attaches to a container, and types this and no more.
fn attach(case: &Case, pod: &Pod<'_>, container: &str, typed: &str) -> Begun {
    let (stdin, mut keyboard) = std::io::pipe().unwrap();
    keyboard.write_all(typed.as_bytes()).unwrap();
    let mut command = case.pod_runtime();
    command.args(["attach", &pod.name, "-c", container, "-i"]);
    command.stdin(Stdio::from(stdin));
    case.begin(command)
}

#[test]
fn what_is_typed_comes_to_the_container() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                reader("open", &["stdin"]),
                reader("once", &["stdin", "stdinOnce"]),
                reader("none", &["stdinOnce"]),
            ],
        }),
    );
    pod.run_detached();
    for name in ["open", "once"] {
        pod.until_running(name);
    }
    pod.until("one has nothing to read", |pod| {
        terminated(pod, "none").is_object()
    });
    assert_eq!(pod.log("none"), "over\n");
    case.pod(["attach", &pod.name, "-c", "none"])
        .fails_saying(&["does not run: Completed"]);

    let seen = attach(&case, &pod, "once", "a\nb\n").end().ok().stdout;
    assert_eq!(seen, "got a\ngot b\nover\n");
    let ended = pod.until("it has read all", |pod| !is_running(pod, "once"));
    assert_eq!(container_status(&ended, "once")["restartCount"], 0);

    let got = |line: &str| {
        eventually(line, || pod.log("open").contains(line).then_some(()));
    };
    let first = attach(&case, &pod, "open", "one\n");
    got("got one");
    process::kill(pod.supervisor());
    let second = attach(&case, &pod, "open", "two\n");
    got("got two");
    assert!(is_running(&pod.status(), "open"), "nobody ended its input");
    pod.stop(&[]).ok();
    assert_eq!(second.end().ok().stdout, "got two\n");
    drop(first);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn nothing_can_be_typed_into_a_container_that_reads_nothing() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::sleeping(&case);
    let error = attach(&case, &pod, "app", "x\n").end().fails();
    assert!(
        error.contains("its manifest has no `stdin: true`"),
        "{error}"
    );
    pod.delete_force().ok();
    case.assert_nothing_left();
}
