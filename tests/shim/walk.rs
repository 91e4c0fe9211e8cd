//! Every call of both services in every state of a container and of a sandbox: each gets the right code, also malformed, about
//! something else, and once more, and the shim lives on.

use super::client::*;
use super::shims;
use super::wire::{field, number, number_of};
use crate::support::{Bundle, Case, eventually};

const TASK: &str = "containerd.task.v3.Task";
const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";
const OK: u64 = 0;
/// It is answered when something ends.
const LATER: u64 = u64::MAX;
/// It changes the state, and is not called just so.
const STEP: u64 = u64::MAX - 1;

/// A call's code.
fn code(reply: Reply) -> u64 {
    reply.map_or_else(|(code, _)| code, |_| OK)
}

/// A row of the table: a method, its message, and the code in each state.
type Row<const STATES: usize> = (&'static str, Vec<u8>, [u64; STATES]);

/// Calls every method in this state.
#[track_caller]
fn walk<const STATES: usize>(
    client: &mut Client,
    service: &str,
    rows: &[Row<STATES>],
    state: usize,
) {
    for (method, message, codes) in rows {
        let expected = codes[state];
        if ![LATER, STEP].contains(&expected) {
            for time in ["once", "twice"] {
                let got = client.call_service(service, method, message);
                let is_it = got.as_ref().map_or_else(|(code, _)| *code, |_| OK) == expected;
                assert!(is_it, "{method}, {time}, in state {state}: {got:?}");
            }
        }
        malformed(client, service, method);
    }
    let unknown = client.call_service(service, "NoSuch", &[]);
    assert_eq!(code(unknown), UNIMPLEMENTED);
}

/// A string longer than its message, one that is no UTF-8, a field of another type, a group that does not end, a number that
/// does not: all of it is understood as wrong.
#[track_caller]
fn malformed(client: &mut Client, service: &str, method: &str) {
    for message in [
        &[0x0a, 0x7f, b'x'][..],
        &[0x0a, 0x02, 0xff, 0xfe],
        &[0x08, 0x01],
        &[0x0b],
        &[0xff; 12],
        &[
            0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ],
    ] {
        let (code, why) = client
            .call_service(service, method, message)
            .expect_err(method);
        assert_eq!(code, INVALID_ARGUMENT, "{method} {message:x?}: {why}");
        assert!(!why.is_empty(), "{method}");
    }
}

/// Bytes without a meaning, the same in each run; what they mean by accident must not end anything.
fn noise(client: &mut Client, service: &str, methods: &[&str]) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for method in methods {
        for _ in 0..200 {
            let length = next() % 40;
            let message: Vec<_> = (0..length).map(|_| next() as u8).collect();
            let got = client.call_service(service, method, &message);
            assert!(
                got.is_err() || ["Connect", "Shutdown", "StopSandbox"].contains(method),
                "{method} {message:x?}: {got:?}"
            );
        }
    }
}

fn task_rows(id: &str, bundle: &Bundle<'_>) -> Vec<Row<5>> {
    use FAILED_PRECONDITION as NO;
    let about = || field(1, id);
    let kill = [about(), number(3, 0)].concat();
    let resources = [
        field(1, "types.containerd.io/LinuxResources"),
        field(2, "{}"),
    ]
    .concat();
    let update = [about(), field(2, resources)].concat();
    let size = [about(), number(3, 80), number(4, 25)].concat();
    let close = [about(), number(3, 1)].concat();
    let relative = [about(), field(2, "relative")].concat();
    let huge = [about(), number(3, 1 << 20)].concat();
    let no_spec = [about(), field(2, "f")].concat();
    // What is written in the columns: nothing, created, running, paused, stopped.
    vec![
        ("Create", create(id, bundle), [STEP, 6, 6, 6, 6]),
        ("Start", about(), [NOT_FOUND, STEP, NO, NO, NO]),
        ("Delete", about(), [NOT_FOUND, STEP, NO, NO, STEP]),
        ("State", about(), [NOT_FOUND, OK, OK, OK, OK]),
        ("Pids", about(), [NOT_FOUND, OK, OK, OK, OK]),
        ("Stats", about(), [NOT_FOUND, OK, OK, OK, NO]),
        ("Connect", about(), [NOT_FOUND, OK, OK, OK, OK]),
        ("Pause", about(), [NOT_FOUND, NO, STEP, NO, NO]),
        ("Resume", about(), [NOT_FOUND, NO, NO, STEP, NO]),
        ("Kill", kill, [NOT_FOUND, OK, OK, OK, NOT_FOUND]),
        ("Kill", huge, [NOT_FOUND, 3, 3, 3, 3]),
        ("Exec", no_spec, [NOT_FOUND, 3, 3, 3, NO]),
        ("Exec", exec_of(id, "", "true"), [NOT_FOUND, 3, 3, 3, NO]),
        ("ResizePty", size, [NOT_FOUND, OK, OK, OK, OK]),
        ("CloseIO", close, [NOT_FOUND, OK, OK, OK, OK]),
        ("Update", update, [NOT_FOUND, OK, OK, OK, NO]),
        ("Update", about(), [NOT_FOUND, 3, 3, 3, NO]),
        ("Checkpoint", relative, [NOT_FOUND, NO, 3, 3, NO]),
        ("Wait", about(), [NOT_FOUND, LATER, LATER, LATER, OK]),
        ("Shutdown", about(), [STEP, OK, OK, OK, OK]),
    ]
}

#[test]
fn every_call_in_every_state_of_a_container() {
    let Some(case) = world("walk::every_call_in_every_state_of_a_container") else {
        return;
    };
    let bundle = case.bundle("b").sh("sleep 1000");
    let id = &*case.id("c");
    let about = field(1, id);
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    let rows = task_rows(id, &bundle);
    let mut waiting = Vec::new();
    let mut wait = || {
        let mut other = shim.client();
        other.wait_for(TASK, "Wait", &about);
        waiting.push(other);
    };
    // Twice: a container that was deleted is none.
    for _ in 0..2 {
        walk(client, TASK, &rows, 0);
        client.ok("Create", &create(id, &bundle));
        walk(client, TASK, &rows, 1);
        wait();
        client.ok("Start", &about);
        walk(client, TASK, &rows, 2);
        wait();
        client.ok("Exec", &exec_of(id, "e", "exit 3"));
        client.ok("Pause", &about);
        walk(client, TASK, &rows, 3);
        wait();
        let exec = [about.clone(), field(2, "e")].concat();
        client.refuses("Start", &exec, FAILED_PRECONDITION);
        client.ok("Resume", &about);
        client.ok("Start", &exec);
        assert_eq!(number_of(&client.ok("Wait", &exec), 1), 3);
        client.ok("Kill", &[about.clone(), number(3, 9)].concat());
        client.ok("Wait", &about);
        walk(client, TASK, &rows, 4);
        client.refuses("Start", &exec, FAILED_PRECONDITION);
        client.ok("Delete", &about);
    }
    // One that was never started is deleted as well, and whoever waits hears of it.
    client.ok("Create", &create(id, &bundle));
    wait();
    client.ok("Delete", &about);
    for mut other in waiting {
        assert_eq!(number_of(&other.receive().1.unwrap(), 1), 137);
    }
    let methods: Vec<_> = rows.iter().map(|(method, _, _)| *method).collect();
    client.ok("Create", &create(id, &bundle));
    noise(client, TASK, &methods);
    client.ok("Delete", &about);
    client.ok("Shutdown", &about);
    eventually("it ends", || shims().is_empty().then_some(()));
}

/// An exec that cannot be run has ended for whoever waits for it, as containerd does before it starts one.
#[test]
fn what_never_ran_has_ended() {
    let Some(case) = world("walk::what_never_ran_has_ended") else {
        return;
    };
    let bundle = case.bundle("b").sh("sleep 1000");
    let id = &*case.id("c");
    let (about, exec) = (field(1, id), [field(1, id), field(2, "e")].concat());
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    let mut waits = shim.client();
    client.ok("Create", &create(id, &bundle));
    client.ok("Start", &about);
    let process = r#"{"args": ["/nosuch"], "cwd": "/", "user": {"uid": 0, "gid": 0}}"#;
    let any = [field(1, "x/Process"), field(2, process)].concat();
    client.ok("Exec", &[exec.clone(), field(7, any)].concat());
    waits.wait_for(TASK, "Wait", &exec);
    client.refuses("Start", &exec, 2);
    assert_eq!(number_of(&waits.receive().1.unwrap(), 1), 255);
    assert_eq!(number_of(&client.ok("Delete", &exec), 2), 255);
    client.ok("Kill", &[about.clone(), number(3, 9)].concat());
    client.ok("Wait", &about);
    client.ok("Delete", &about);
    client.ok("Shutdown", &about);
    eventually("it ends", || shims().is_empty().then_some(()));
}

/// CreateSandbox' message, on the node's network.
fn create_sandbox(case: &Case, id: &str, bundle: &str) -> Vec<u8> {
    let security = field(2, field(1, number(1, 2)));
    let linux = [field(1, format!("/{}", case.token)), security].concat();
    let options = [
        field(1, "runtime.v1.PodSandboxConfig"),
        field(2, field(8, linux)),
    ];
    [field(1, id), field(2, bundle), field(4, options.concat())].concat()
}

fn sandbox_rows(pod: &str, made: &[u8]) -> Vec<Row<4>> {
    use FAILED_PRECONDITION as NO;
    let about = || field(1, pod);
    let other = || field(1, "other");
    // Nothing, created, ready, stopped.
    vec![
        ("CreateSandbox", made.to_vec(), [STEP, 6, 6, 6]),
        ("StartSandbox", about(), [NOT_FOUND, STEP, NO, NO]),
        ("StartSandbox", other(), [NOT_FOUND; 4]),
        ("Platform", about(), [NOT_FOUND, OK, OK, OK]),
        ("Platform", other(), [NOT_FOUND; 4]),
        ("SandboxStatus", about(), [NOT_FOUND, OK, OK, OK]),
        ("SandboxStatus", other(), [NOT_FOUND; 4]),
        ("PingSandbox", about(), [NOT_FOUND, OK, OK, OK]),
        ("PingSandbox", other(), [NOT_FOUND; 4]),
        ("SandboxMetrics", about(), [NOT_FOUND, NO, OK, NO]),
        ("SandboxMetrics", other(), [NOT_FOUND; 4]),
        ("WaitSandbox", about(), [NOT_FOUND, LATER, LATER, OK]),
        ("WaitSandbox", other(), [NOT_FOUND; 4]),
        // What is not there has been stopped.
        ("StopSandbox", about(), [OK, STEP, STEP, OK]),
        (
            "StopSandbox",
            other(),
            [OK, NOT_FOUND, NOT_FOUND, NOT_FOUND],
        ),
        (
            "ShutdownSandbox",
            other(),
            [STEP, NOT_FOUND, NOT_FOUND, NOT_FOUND],
        ),
    ]
}

#[test]
fn every_call_in_every_state_of_a_sandbox() {
    let Some(case) = world("walk::every_call_in_every_state_of_a_sandbox") else {
        return;
    };
    let bundle = case.bundle("b").sh("sleep 1000");
    let path = bundle
        .rootfs()
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let (id, pod) = (&*case.id("c"), &*case.id("p"));
    let about = || field(1, pod);
    let made = create_sandbox(&case, pod, &path);
    let rows = sandbox_rows(pod, &made);
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    let call = |client: &mut Client, method: &str, message: &[u8]| {
        code(client.call_service(SANDBOX, method, message))
    };
    walk(client, SANDBOX, &rows, 0);
    for wrong in [
        Vec::new(),
        create_sandbox(&case, "../x", &path),
        create_sandbox(&case, pod, "relative"),
        [made.clone(), field(3, field(1, "overlay"))].concat(),
        [
            about(),
            field(2, &path),
            field(4, field(1, "example.Other")),
        ]
        .concat(),
        [made.clone(), field(4, field(2, [0x0a, 0x7f]))].concat(),
    ] {
        assert_eq!(
            call(client, "CreateSandbox", &wrong),
            INVALID_ARGUMENT,
            "{wrong:?}"
        );
    }
    let mut waits = shim.client();
    assert_eq!(call(client, "CreateSandbox", &made), OK);
    walk(client, SANDBOX, &rows, 1);
    waits.wait_for(SANDBOX, "WaitSandbox", &about());
    assert_eq!(call(client, "StartSandbox", &about()), OK);
    walk(client, SANDBOX, &rows, 2);
    waits.wait_for(SANDBOX, "WaitSandbox", &about());
    // A containerd that starts again asks the Task service for the sandbox.
    assert_ne!(number_of(&client.ok("Connect", &about()), 2), 0);
    // A container in it, whose Shutdown means nothing as long as there is the sandbox.
    client.ok("Create", &create(id, &bundle));
    client.ok("Start", &field(1, id));
    client.ok("Shutdown", &field(1, id));
    assert_eq!(call(client, "StopSandbox", &about()), OK);
    for _ in 0..2 {
        assert_eq!(number_of(&waits.receive().1.unwrap(), 1), 137);
    }
    walk(client, SANDBOX, &rows, 3);
    assert_eq!(number_of(&client.ok("Wait", &field(1, id)), 1), 137);
    client.ok("Delete", &field(1, id));
    client.ok("Shutdown", &field(1, id));
    let methods: Vec<_> = rows.iter().map(|(method, _, _)| *method).collect();
    noise(client, SANDBOX, &methods);
    assert_eq!(call(client, "ShutdownSandbox", &about()), OK);
    eventually("it ends", || shims().is_empty().then_some(()));

    // Stopped before it was started.
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    assert_eq!(call(client, "CreateSandbox", &made), OK);
    let mut waits = shim.client();
    waits.wait_for(SANDBOX, "WaitSandbox", &about());
    assert_eq!(call(client, "PingSandbox", &about()), OK);
    assert_eq!(call(client, "StopSandbox", &about()), OK);
    assert_eq!(number_of(&waits.receive().1.unwrap(), 1), 137);
    walk(client, SANDBOX, &rows, 3);
    assert_eq!(call(client, "ShutdownSandbox", &about()), OK);
    eventually("it ends", || shims().is_empty().then_some(()));
    crate::callers::remove_parent_cgroups(&case);
}
