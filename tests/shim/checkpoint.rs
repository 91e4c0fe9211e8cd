//! Checkpoints, with containerd 1.6 and its client: containers go on where they were.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::client::{Client, FAILED_PRECONDITION, Fifos, Shim, create, world};
use super::cri::{IMAGE, image};
use super::wire::{field, number, number_of};
use super::{Containerd, RUNTIME, shims};
use crate::support::alone::alone;
use crate::support::requires::requires;
use crate::support::{Case, Need, eventually, requires};

/// Counts, in a file of the container's own and on standard output.
const COUNT: &str =
    "i=0; while :; do i=$((i+1)); echo $i; echo $i >/new; mv /new /count; sleep 0.05; done";

fn count(containerd: &Containerd<'_>, id: &str) -> u32 {
    eventually("it counts", || {
        let exec = ["task", "exec", "--exec-id", "e", id, "cat", "/count"];
        containerd.ctr(&exec).stdout.trim().parse().ok()
    })
}

#[test]
fn a_container_goes_on_where_its_checkpoint_found_it() {
    if !alone("shim::checkpoint::a_container_goes_on_where_its_checkpoint_found_it") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Criu, Need::Runp]) else {
        return;
    };
    let containerd = Containerd::new(&case);
    let archive = image(&case);
    containerd
        .ctr(&["image", "import", archive.to_str().unwrap()])
        .ok();
    let cgroup = format!("/{}/counts", case.token);
    let run = ["run", "--runtime", RUNTIME, "--cgroup", &cgroup, "--detach"];
    let container = [IMAGE, "counts", "/bin/sh", "-c", COUNT];
    containerd.ctr(&[&run[..], &container].concat()).ok();
    let before = eventually("it has counted a little", || {
        Some(count(&containerd, "counts")).filter(|count| *count > 5)
    });
    let checkpoint = ["container", "checkpoint", "--image", "--rw", "--task"];
    containerd
        .ctr(&[&checkpoint[..], &["counts", "saved"]].concat())
        .ok();
    assert!(count(&containerd, "counts") >= before, "it goes on");
    containerd
        .ctr(&["task", "kill", "--signal", "KILL", "counts"])
        .ok();
    containerd.wait_for_status("counts", "STOPPED");
    containerd.remove("counts");

    // Its writable layer and its processes, by one reference.
    let restore = ["container", "restore", "--rw", "--live", "counts", "saved"];
    let restored = case.begin(containerd.client(&restore));
    containerd.wait_for_status("counts", "RUNNING");
    let after = count(&containerd, "counts");
    assert!(
        after >= before && after < before + 1000,
        "{before}, {after}"
    );
    eventually("it counts on", || {
        (count(&containerd, "counts") > after).then_some(())
    });
    containerd
        .ctr(&["task", "kill", "--signal", "KILL", "counts"])
        .ok();
    containerd.wait_for_status("counts", "STOPPED");
    restored.end();
    containerd.remove("counts");
    containerd.leaves_nothing();
}

/// Checkpoint's message.
fn checkpoint(id: &str, images: &Path, options: &[u8]) -> Vec<u8> {
    let options = [
        field(1, "containerd.runc.v1.CheckpointOptions"),
        field(2, options),
    ];
    let path = images.to_str().unwrap();
    [field(1, id), field(2, path), field(3, options.concat())].concat()
}

/// It says how many lines it has read, and ends with the last one.
const LINES: &str = "i=0; while read line; do i=$((i+1)); echo $line $i; done; exit 7";

#[test]
fn a_container_goes_on_with_other_fifos() {
    go_on("a_container_goes_on_with_other_fifos", false);
}

#[test]
fn a_container_goes_on_with_another_terminal() {
    go_on("a_container_goes_on_with_another_terminal", true);
}

fn go_on(test: &str, terminal: bool) {
    let Some(case) = world(&format!("checkpoint::{test}")) else {
        return;
    };
    if !requires(&[Need::Criu]) {
        return;
    }
    let criu = requires::criu().unwrap();
    let bundle = case
        .bundle("b")
        .sh(LINES)
        .with("/process/terminal", json!(terminal));
    let images = case.dir().join("images");
    let id = &*case.id("c");
    let about = field(1, id);
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    let options = [
        field(1, "containerd.runc.v1.Options"),
        field(2, field(8, criu.to_str().unwrap())),
    ];
    let create = |fifos: &Fifos| {
        let terminal = number(4, u64::from(terminal));
        let options = field(10, options.concat());
        [create(id, &bundle), terminal, fifos.fields(), options].concat()
    };
    let mut first = Fifos::new(&case, "first");
    client.ok("Create", &create(&first));
    client.ok("Start", &about);
    first.write("a");
    first.expect("a 1");
    // It goes on, and then it does not.
    let once = case.dir().join("once");
    client.ok("Checkpoint", &checkpoint(id, &once, &[]));
    first.write("b");
    first.expect("b 2");
    let exit = [number(1, 1), field(6, "network")].concat();
    client.ok("Checkpoint", &checkpoint(id, &images, &exit));
    assert_eq!(number_of(&client.ok("Wait", &about), 1), 137);
    client.ok("Delete", &about);

    let mut second = Fifos::new(&case, "second");
    let from = field(8, images.to_str().unwrap());
    client.refuses(
        "Create",
        &[create(&second), field(8, "/nosuch")].concat(),
        2,
    );
    client.ok("Create", &[create(&second), from].concat());
    let state = client.ok("State", &about);
    assert_eq!(
        (number_of(&state, 3), number_of(&state, 4)),
        (0, 1),
        "created"
    );
    for method in ["Pause", "Stats", "Checkpoint"] {
        client.refuses(method, &about, FAILED_PRECONDITION);
    }
    client.ok("Pids", &about);
    let mut waits = shim.client();
    waits.wait_for("containerd.task.v2.Task", "Wait", &about);
    assert_ne!(number_of(&client.ok("Start", &about), 1), 0);
    client.refuses("Start", &about, FAILED_PRECONDITION);
    second.write("c");
    second.expect("c 3");
    if terminal {
        // Ctrl-D.
        second.input.as_ref().unwrap().write_all(&[4]).unwrap();
    } else {
        second.input = None;
        client.ok("CloseIO", &[about.clone(), number(3, 1)].concat());
    }
    assert_eq!(number_of(&waits.receive().1.unwrap(), 1), 7);
    client.ok("Delete", &about);

    joining_is_refused(&case, client, id, &images, terminal);

    // Images that are none: it has never run.
    let nothing = case.dir().join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    let from = field(8, nothing.to_str().unwrap());
    client.ok(
        "Create",
        &[create(&Fifos::new(&case, "third")), from].concat(),
    );
    client.refuses("Start", &about, 2);
    assert_eq!(number_of(&client.ok("Wait", &about), 1), 255);
    client.ok("Delete", &about);
    client.ok("Shutdown", &about);
    eventually("it ends", || shims().is_empty().then_some(()));
    case.assert_nothing_left();
}

/// Into a namespace that is there, and that criu cannot join: nobody gets another one instead.
fn joining_is_refused(case: &Case, client: &mut Client, id: &str, images: &Path, terminal: bool) {
    let time = json!({"type": "time", "path": "/proc/1/ns/time"});
    let namespaces = json!([{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, time]);
    let joins = case.bundle("joins").sh(LINES);
    let joins = joins
        .with("/process/terminal", json!(terminal))
        .with("/linux/namespaces", namespaces);
    let from = field(8, images.to_str().unwrap());
    let fifos = Fifos::new(case, "fourth");
    let message = [
        create(id, &joins),
        number(4, u64::from(terminal)),
        fifos.fields(),
        from,
    ];
    client.ok("Create", &message.concat());
    let (_, why) = client.call("Start", &field(1, id)).unwrap_err();
    assert!(why.contains("join the time namespace"), "{why}");
    client.ok("Delete", &field(1, id));
}
