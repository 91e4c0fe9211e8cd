//! create, start, state, kill, delete, run, list, spec, exec, ps.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Case, eventually, process};

#[test]
fn a_container_goes_through_created_running_stopped() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");

    c.create().ok();
    let state = c.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], c.id);
    assert_eq!(state["bundle"], c.path.to_str().unwrap());
    assert!(state["ociVersion"].is_string());
    assert!(process::runs(c.pid()));

    c.start().ok();
    assert_eq!(c.status(), "running");

    c.kill("KILL").ok();
    c.wait_stopped();
    c.delete().ok();
    c.delete().fails_saying(&[&c.id]);
    case.assert_nothing_left();
}

#[test]
fn the_program_waits_for_start() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("touch /tmp/ran");
    let c = c.with("/root/readonly", json!(false));
    let ran = c.rootfs().join("tmp/ran");

    c.create().ok();
    let before = fs::read_to_string(format!("/proc/{}/comm", c.pid())).unwrap();
    assert_ne!(before.trim(), "sh", "the program runs before start");
    assert!(!ran.exists());
    c.start().ok();
    c.wait_stopped();
    assert!(ran.exists());
    c.start().fails_saying(&["stopped"]);
    c.delete().ok();
}

#[test]
fn start_needs_a_created_container_and_delete_a_stopped_one() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");

    c.start().fails_saying(&[&c.id]);
    c.create().ok();
    c.start().ok();
    c.start().fails_saying(&["running"]);
    c.delete().fails_saying(&["--force"]);
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    case.assert_nothing_left();
    c.delete_force().ok(); // what is not there is already deleted
}

#[test]
fn a_created_container_that_was_never_started_is_deleted() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.create().ok();
    let pid = c.pid();
    c.delete_force().ok();
    assert!(!process::runs(pid));
    case.assert_nothing_left();
}

#[test]
fn run_gives_the_exit_code_of_the_program_and_leaves_nothing() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c");
    for code in [0, 1, 42, 255] {
        let c = case
            .bundle(&format!("code{code}"))
            .sh(&format!("exit {code}"));
        c.run().code(code);
    }
    let c = c.sh("kill -TERM $$; sleep 1000");
    // The first process of a pid namespace ignores what it does not handle, unless it comes from outside.
    let c = c.no_namespace("pid");
    c.run().code(128 + 15);
    case.assert_nothing_left();
}

#[test]
fn run_passes_standard_input_output_and_error() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("cat; echo out; echo err >&2");
    let input = case.dir().join("input");
    fs::write(&input, "in\n").unwrap();
    let mut command = case.runtime();
    command.args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    command.stdin(fs::File::open(input).unwrap());
    let done = case.finish(command).ok();
    assert_eq!(done.stdout, "in\nout\n");
    assert_eq!(done.stderr, "err\n");
}

#[test]
fn run_passes_signals_on() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("trap 'exit 7' TERM; echo ready > /tmp/ready; while :; do sleep 0.1; done")
        .with("/root/readonly", json!(false));
    let mut command = case.runtime();
    command.args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    let mut child = command.spawn().unwrap();
    eventually("the trap is set", || {
        c.rootfs().join("tmp/ready").exists().then_some(())
    });
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    case.assert_nothing_left();
}

#[test]
fn run_keep_leaves_a_stopped_container() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("exit 3");
    case.run(["run", "--keep", "--bundle", c.path.to_str().unwrap(), &c.id])
        .code(3);
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
}

#[test]
fn a_detached_container_goes_on_and_writes_its_pid_file() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    let pid_file = case.dir().join("pid");
    case.run([
        "run",
        "-d",
        "--pid-file",
        pid_file.to_str().unwrap(),
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ])
    .ok();
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(pid, c.pid());
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    assert!(!process::runs(pid));
}

#[test]
fn kill_takes_names_and_numbers_and_refuses_nonsense() {
    let Some(case) = Case::new(&[]) else { return };
    for (i, signal) in ["TERM", "SIGTERM", "15", "term"].into_iter().enumerate() {
        let c = case
            .bundle(&format!("c{i}"))
            .sh("trap 'exit 0' TERM; touch /tmp/ready; while :; do sleep 0.05; done")
            .with("/root/readonly", json!(false));
        c.run_detached().ok();
        eventually("the trap is set", || {
            c.rootfs().join("tmp/ready").exists().then_some(())
        });
        c.kill("NOSUCH").fails_saying(&["NOSUCH"]);
        c.kill(signal).ok();
        c.wait_stopped();
        c.kill("TERM").fails_saying(&["not running"]);
        c.delete().ok();
    }
}

#[test]
fn list_shows_each_container_as_a_table_as_json_and_as_names() {
    let Some(case) = Case::new(&[]) else { return };
    assert_eq!(case.run(["list", "--quiet"]).ok().stdout, "");
    let (a, b) = (
        case.bundle("a").sh("sleep 1000"),
        case.bundle("b").sh("sleep 1000"),
    );
    a.create().ok();
    b.run_detached().ok();

    let json: Value =
        serde_json::from_str(&case.run(["list", "--format", "json"]).ok().stdout).unwrap();
    let status: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["id"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(status, [(&*a.id, "created"), (&*b.id, "running")]);
    let quiet = case.run(["list", "-q"]).ok().stdout;
    assert_eq!(quiet, format!("{}\n{}\n", a.id, b.id));
    let table = case.run(["list"]).ok().stdout;
    let mut lines = table.lines();
    let head: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert!(lines.next().unwrap().contains(&a.id));

    a.delete_force().ok();
    b.delete_force().ok();
}

#[test]
fn exec_runs_in_the_container_with_its_options() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();

    assert_eq!(c.exec(&[], &["echo", "hi"]).ok().stdout, "hi\n");
    c.exec(&[], &["sh", "-c", "exit 9"]).code(9);
    assert_eq!(
        c.exec(&["--cwd", "/tmp"], &["sh", "-c", "pwd"]).ok().stdout,
        "/tmp\n"
    );
    let env = c.exec(
        &["--env", "A=1", "--env", "B=two"],
        &["sh", "-c", "echo $A $B $PATH"],
    );
    assert!(
        env.ok().stdout.starts_with("1 two /"),
        "the environment of the container is kept"
    );
    assert_eq!(
        c.exec(&["--user", "1000:1001"], &["id"]).ok().stdout.trim(),
        "uid=1000 gid=1001"
    );
    let inside = c.exec(&[], &["readlink", "/proc/self/ns/net"]).ok().stdout;
    assert_eq!(
        Some(inside.trim().to_owned()),
        process::namespace(c.pid(), "net")
    );
    let caps = c
        .exec(
            &[],
            &["sh", "-c", "grep -E 'Cap(Eff|Inh)' /proc/self/status"],
        )
        .ok();
    assert!(
        caps.stdout.contains("CapInh:\t0000000000000000"),
        "{caps:?}"
    );
    c.exec(&[], &["/no/such/program"])
        .fails_saying(&["/no/such/program"]);

    let pid_file = case.dir().join("exec.pid");
    c.exec(
        &["--detach", "--pid-file", pid_file.to_str().unwrap()],
        &["sleep", "1000"],
    )
    .ok();
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(
        process::namespace(pid, "pid"),
        process::namespace(c.pid(), "pid")
    );

    let ps: Vec<i32> =
        serde_json::from_str(&case.run(["ps", "--format", "json", &c.id]).ok().stdout).unwrap();
    assert!(ps.contains(&pid) && ps.contains(&c.pid()), "{ps:?}");
    let table = case.run(["ps", &c.id]).ok().stdout;
    assert!(table.contains("sleep 1000"), "{table}");

    c.delete_force().ok();
    assert!(!process::runs(pid), "an exec outlives its container");
}

#[test]
fn exec_takes_a_process_file() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let mut process = c.config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", "echo $WHO; pwd"]);
    process["env"] = json!(["PATH=/bin", "WHO=me"]);
    process["cwd"] = json!("/tmp");
    let file = case.dir().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let done = case.run(["exec", "--process", file.to_str().unwrap(), &c.id]);
    assert_eq!(done.ok().stdout, "me\n/tmp\n");
    c.delete_force().ok();
}

#[test]
fn exec_needs_a_running_container() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true");
    c.exec(&[], &["true"]).fails_saying(&[&c.id]);
    c.run_detached().ok();
    c.wait_stopped();
    c.exec(&[], &["true"]).fails_saying(&["stopped"]);
    c.delete().ok();
}

#[test]
fn spec_writes_a_config_that_runs_and_never_over_one() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").args(&["/bin/hostname"]);
    assert_ne!(c.prints(), "");
    case.run(["spec", "--bundle", c.path.to_str().unwrap()])
        .fails_saying(&["config.json"]);
}

#[test]
fn a_bundle_of_another_runtimes_spec_runs() {
    let Some(case) = Case::new(&[]) else { return };
    // As `runc spec` of 1.1 writes it, apart from the terminal and the command.
    let c = case.bundle("c");
    let text = include_str!("../manifests/runc-spec.json");
    fs::write(c.path.join("config.json"), text).unwrap();
    assert_eq!(c.prints(), "runc\n");
}

#[test]
fn a_process_in_the_hosts_pid_namespace_that_is_left_is_killed_by_delete() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .no_namespace("pid")
        .sh("sleep 1000 & sleep 1000");
    c.run_detached().ok();
    let all = || {
        let ps = case.run(["ps", "--format", "json", &c.id]).ok().stdout;
        serde_json::from_str::<Vec<i32>>(&ps).unwrap()
    };
    let pids = eventually("both sleeps run", || Some(all()).filter(|p| p.len() >= 2));
    c.delete_force().ok();
    case.assert_nothing_left();
    assert!(pids.iter().all(|pid| !process::runs(*pid)));
}
