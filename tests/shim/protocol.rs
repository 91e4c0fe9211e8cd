//! Calls that no containerd makes: malformed, out of order, repeated. Each gets the right code, and the shim lives on.

use std::io::{Read, Write};
use std::time::Duration;

use super::client::*;
use super::shims;
use super::wire::{field, number, number_of};
use crate::support::{eventually, kernel_at_least, process};

#[test]
fn every_call_about_nothing_is_refused() {
    let Some(case) = world("protocol::every_call_about_nothing_is_refused") else {
        return;
    };
    let bundle = case.bundle("b");
    let shim = Shim::new(&case, &bundle);
    let mut client = shim.client();
    let about = |id: &str| field(1, id);
    for method in [
        "Start",
        "Delete",
        "Exec",
        "Kill",
        "Pause",
        "Resume",
        "State",
        "Pids",
        "Stats",
        "Connect",
        "ResizePty",
        "CloseIO",
        "Update",
        "Wait",
    ] {
        client.refuses(method, &about("nosuch"), NOT_FOUND);
        // A string that is longer than its message; a field of the wrong type.
        client.refuses(method, &[0x0a, 0x7f, b'x'], INVALID_ARGUMENT);
        client.refuses(method, &[0x08, 0x01], INVALID_ARGUMENT);
        if method != "Connect" {
            client.refuses(method, &[], NOT_FOUND);
        }
    }
    for method in ["NoSuch", ""] {
        client.refuses(method, &about("c"), UNIMPLEMENTED);
    }
    for service in ["", "containerd.task.v1.Task", "grpc.health.v1.Health"] {
        let (code, _) = client.call_service(service, "State", &[]).unwrap_err();
        assert_eq!(code, UNIMPLEMENTED, "{service}");
    }
    client.ok("Connect", &[]);
    client.ok("Shutdown", &[]);
    eventually("it ends", || shims().is_empty().then_some(()));
}

#[test]
fn frames_that_make_no_sense_harm_nobody() {
    let Some(case) = world("protocol::frames_that_make_no_sense_harm_nobody") else {
        return;
    };
    let bundle = case.bundle("b");
    let shim = Shim::new(&case, &bundle);
    let mut good = shim.client();
    let mut bad = shim.client();
    bad.send_frame(3, 1, &[0xff; 20]);
    assert_eq!(bad.receive().1.unwrap_err().0, INVALID_ARGUMENT);
    bad.send_frame(5, 7, b"?");
    assert_eq!(bad.receive().1.unwrap_err().0, UNIMPLEMENTED);
    // A response to nothing is no reason to say anything.
    bad.send_frame(7, 2, &[]);
    bad.call("Connect", &[]).unwrap();
    // Five megabytes are announced: the answer says why, and that was it.
    bad.socket
        .write_all(&[0, 0x50, 0, 0, 0, 0, 0, 9, 1, 0])
        .unwrap();
    assert_eq!(bad.receive().1.unwrap_err().0, RESOURCE_EXHAUSTED);
    assert_eq!(bad.socket.read(&mut [0]).unwrap(), 0);
    // Half a frame, and then nothing.
    let mut half = shim.client();
    half.socket.write_all(&[0, 0, 0, 9, 0, 0]).unwrap();
    drop(half);
    good.ok("Connect", &[]);
    good.ok("Shutdown", &[]);
    eventually("it ends", || shims().is_empty().then_some(()));
}

#[test]
fn calls_out_of_order_are_refused() {
    let Some(case) = world("protocol::calls_out_of_order_are_refused") else {
        return;
    };
    let bundle = case.bundle("b").sh("sleep 1000");
    let id = &*case.id("c");
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    let about = field(1, id);
    let exec = |exec_id: &str| [field(1, id), field(2, exec_id)].concat();

    client.refuses("Create", &field(2, "/nosuch"), INVALID_ARGUMENT);
    client.refuses("Create", &create("../c", &bundle), INVALID_ARGUMENT);
    let relative = [field(1, id), field(2, "relative")].concat();
    client.refuses("Create", &relative, INVALID_ARGUMENT);
    let options = field(1, "example.Unknown");
    let unknown = [create(id, &bundle), field(10, options)].concat();
    client.refuses("Create", &unknown, INVALID_ARGUMENT);
    client.ok("Create", &create(id, &bundle));
    client.refuses("Create", &create(id, &bundle), ALREADY_EXISTS);

    // It has not been started.
    client.refuses("Pause", &about, FAILED_PRECONDITION);
    client.refuses("Resume", &about, FAILED_PRECONDITION);
    for method in ["Start", "Delete", "State", "Wait", "Kill"] {
        client.refuses(method, &exec("nosuch"), NOT_FOUND);
    }
    client.refuses("Exec", &about, INVALID_ARGUMENT);
    client.refuses("Exec", &exec("e"), INVALID_ARGUMENT);
    let spec = |json: &str| {
        let any = [
            field(
                1,
                "types.containerd.io/opencontainers/runtime-spec/1/Process",
            ),
            field(2, json),
        ];
        [exec("e"), field(7, any.concat())].concat()
    };
    client.refuses("Exec", &spec("{"), INVALID_ARGUMENT);
    client.refuses("Exec", &spec("{\"args\": []}"), INVALID_ARGUMENT);

    client.ok("Start", &about);
    client.refuses("Start", &about, FAILED_PRECONDITION);
    client.refuses("Delete", &about, FAILED_PRECONDITION);
    let signal = [about.clone(), number(3, 1000)].concat();
    client.refuses("Kill", &signal, INVALID_ARGUMENT);
    client.refuses("Update", &about, INVALID_ARGUMENT);

    let json = r#"{"args": ["/bin/sh", "-c", "exit 3"], "cwd": "/", "user": {"uid": 0, "gid": 0}}"#;
    client.ok("Exec", &spec(json));
    client.refuses("Exec", &spec(json), ALREADY_EXISTS);
    client.refuses("Kill", &exec("e"), FAILED_PRECONDITION);
    client.ok("Start", &exec("e"));
    assert_eq!(number_of(&client.ok("Wait", &exec("e")), 1), 3);
    client.refuses("Start", &exec("e"), FAILED_PRECONDITION);
    client.refuses("Kill", &exec("e"), NOT_FOUND);
    assert_eq!(number_of(&client.ok("Delete", &exec("e")), 2), 3);
    client.refuses("Delete", &exec("e"), NOT_FOUND);

    let kill = [about.clone(), number(3, 9)].concat();
    client.ok("Shutdown", &about);
    client.ok("Kill", &kill);
    assert_eq!(number_of(&client.ok("Wait", &about), 1), 137);
    client.refuses("Kill", &kill, NOT_FOUND);
    client.refuses("Start", &about, FAILED_PRECONDITION);
    client.refuses("Update", &about, FAILED_PRECONDITION);
    assert_eq!(number_of(&client.ok("Delete", &about), 2), 137);
    client.refuses("Delete", &about, NOT_FOUND);
    client.ok("Shutdown", &about);
    eventually("it ends", || shims().is_empty().then_some(()));
}

#[test]
fn an_end_is_told_to_all_who_wait_and_whoever_asks_later() {
    let Some(case) = world("protocol::an_end_is_told_to_all_who_wait_and_whoever_asks_later")
    else {
        return;
    };
    let bundle = case.bundle("b").sh("exit 7");
    let id = &*case.id("c");
    let shim = Shim::new(&case, &bundle);
    let about = field(1, id);
    let client = &mut shim.client();
    client.ok("Create", &create(id, &bundle));
    let mut waiting: Vec<_> = (0..3).map(|_| shim.client()).collect();
    for other in &mut waiting {
        other.send("containerd.task.v3.Task", "Wait", &about);
    }
    // This one does not wait for the answer.
    shim.client()
        .send("containerd.task.v2.Task", "Wait", &about);
    client.ok("Start", &about);
    for other in &mut waiting {
        let answer = other.receive().1.unwrap();
        assert_eq!(number_of(&answer, 1), 7);
        assert!(answer.iter().any(|(field, _)| *field == 2), "when");
    }
    assert_eq!(number_of(&client.ok("Wait", &about), 1), 7);
    client.ok("Delete", &about);
    client.ok("Shutdown", &about);
    eventually("it ends", || shims().is_empty().then_some(()));
}

#[test]
fn events_wait_for_containerd() {
    let Some(case) = world("protocol::events_wait_for_containerd") else {
        return;
    };
    let bundle = case.bundle("b").sh("exit 7");
    let id = &*case.id("c");
    let about = field(1, id);
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    client.ok("Create", &create(id, &bundle));
    client.ok("Start", &about);
    client.ok("Wait", &about);
    let [pid] = shims()[..] else {
        panic!("{:?}", shims());
    };
    // It looks for containerd now and then, and sleeps in between.
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let times = stat.split(' ').skip(13).take(2);
        times.map(|time| time.parse::<u64>().unwrap()).sum::<u64>()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(3));
    let spent = ticks() - before;
    assert!(spent < 100, "{spent} ticks of 300");
    let events = Listener::new(&case);
    eventually("all events come, in their order", || {
        let topics = ["create", "start", "exit"].map(|topic| format!("/tasks/{topic}"));
        (events.all() == topics).then_some(())
    });
    client.ok("Delete", &about);
    client.ok("Shutdown", &about);
    eventually("it ends", || shims().is_empty().then_some(()));
    assert_eq!(events.count("/tasks/delete"), 1);
}

/// More than the terminal and the fifo hold, to readers that are there, that come when the process waits for them, and when
/// it has ended. (With ctr under script(1) this cannot be told: script drops what it has not read 10 ms after its child's end.)
#[test]
fn a_terminal_is_copied_to_the_last_byte() {
    const LINES: usize = 20_000;
    let Some(case) = world("protocol::a_terminal_is_copied_to_the_last_byte") else {
        return;
    };
    let script = |lines: usize| {
        format!("i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); done; exit 7")
    };
    let terminal = serde_json::json!(true);
    let many = case.bundle("many").sh(&script(LINES));
    let many = many.with("/process/terminal", terminal.clone());
    let few = case.bundle("few").sh(&script(10));
    let few = few.with("/process/terminal", terminal);
    let shim = Shim::new(&case, &many);
    let client = &mut shim.client();
    for (name, bundle, lines) in [
        ("there", &many, LINES),
        ("late", &many, LINES),
        ("after", &few, 10),
    ] {
        let id = &*case.id(name);
        let about = field(1, id);
        let stdout = fifo(&case, name);
        let output = [number(4, 1), field(6, stdout.to_str().unwrap())].concat();
        let read = move || {
            let mut text = String::new();
            let mut file = std::fs::File::open(stdout).unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        let reader = (name == "there").then(|| std::thread::spawn(read.clone()));
        client.ok("Create", &[create(id, bundle), output].concat());
        client.ok("Start", &about);
        let reader = match name {
            "after" => {
                assert_eq!(number_of(&client.ok("Wait", &about), 1), 7);
                std::thread::spawn(read)
            }
            _ => reader.unwrap_or_else(|| std::thread::spawn(read)),
        };
        let text = reader.join().unwrap();
        assert_eq!(number_of(&client.ok("Wait", &about), 1), 7);
        let got: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(got.len(), lines, "{name}");
        let all = got
            .iter()
            .enumerate()
            .all(|(n, line)| *line == format!("line {n}"));
        assert!(all, "{name}");
        client.ok("Delete", &about);
    }
    client.ok("Shutdown", &[]);
    eventually("it ends", || shims().is_empty().then_some(()));
}

#[test]
fn no_end_is_lost_and_nothing_grows() {
    let Some(case) = world("protocol::no_end_is_lost_and_nothing_grows") else {
        return;
    };
    let runs = std::env::var("RUNP_TEST_CYCLES").map_or(300, |runs| runs.parse().unwrap());
    let stays = case.bundle("stays").sh("sleep 1000");
    let ends = case.bundle("ends").sh("exit 7");
    let events = Listener::new(&case);
    let shim = Shim::new(&case, &stays);
    let client = &mut shim.client();
    let (stay, end) = (&*case.id("stay"), &*case.id("end"));
    client.ok("Create", &create(stay, &stays));
    client.ok("Start", &field(1, stay));
    let mut sizes = Vec::new();
    for run in 0..runs {
        // A container, whose end comes before, while or after it is waited for.
        let about = field(1, end);
        client.ok("Create", &create(end, &ends));
        let mut waits = shim.client();
        let waited = |client: &mut Client| match run % 2 {
            0 => client.send("containerd.task.v2.Task", "Wait", &field(1, end)),
            _ => 0,
        };
        let stream = waited(&mut waits);
        client.ok("Start", &about);
        let code = match stream {
            0 => client.ok("Wait", &about),
            _ => waits.receive().1.unwrap(),
        };
        assert_eq!(number_of(&code, 1), 7);
        assert_eq!(number_of(&client.ok("Delete", &about), 2), 7);
        // And an exec.
        let exec = [field(1, stay), field(2, "e")].concat();
        client.ok("Exec", &exec_of(stay, "e", "exit 9"));
        client.ok("Start", &exec);
        assert_eq!(number_of(&client.ok("Wait", &exec), 1), 9);
        client.ok("Delete", &exec);
        if run == 50 || run + 1 == runs {
            sizes.push(size(shims()[0]));
        }
    }
    let [(memory, files), (memory_then, files_then)] = sizes[..] else {
        panic!("{sizes:?}");
    };
    assert_eq!(files, files_then, "descriptors");
    assert!(
        memory_then <= memory + 64,
        "{memory} kB, then {memory_then} kB"
    );
    eventually("all ends are told", || {
        (events.count("/tasks/exit") == 2 * runs).then_some(())
    });
    eprintln!("{runs} containers, {runs} execs: {memory} kB, then {memory_then} kB");
    client.ok("Kill", &[field(1, stay), number(3, 9)].concat());
    client.ok("Wait", &field(1, stay));
    client.ok("Delete", &field(1, stay));
    client.ok("Shutdown", &[]);
    eventually("it ends", || shims().is_empty().then_some(()));
}

/// A process's own memory in kB, and its open files.
fn size(pid: i32) -> (usize, usize) {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    (process::memory(pid).own, files)
}

#[test]
fn an_idle_shim_sleeps_and_is_small() {
    let Some(case) = world("protocol::an_idle_shim_sleeps_and_is_small") else {
        return;
    };
    let bundle = case.bundle("b").sh("sleep 1000");
    let id = &*case.id("c");
    let _events = Listener::new(&case);
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    client.ok("Create", &create(id, &bundle));
    client.ok("Start", &field(1, id));
    let [pid] = shims()[..] else {
        panic!("{:?}", shims());
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Threads:\t1\n"), "{status}");
    let (memory, _) = size(pid);
    assert!(memory <= 1024, "{memory} kB of its own");
    // When nothing has happened for a second, it gives back what it does not need for sleeping.
    eventually("it rests", || {
        (process::memory(pid).proportional <= 1536).then_some(())
    });
    let sleeps = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
        switches.map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("it goes to sleep", || {
        let before = sleeps();
        std::thread::sleep(Duration::from_secs(2));
        (sleeps() == before).then_some(())
    });
    client.ok("Kill", &[field(1, id), number(3, 9)].concat());
    client.ok("Wait", &field(1, id));
    client.ok("Delete", &field(1, id));
    client.ok("Shutdown", &[]);
    eventually("it ends", || shims().is_empty().then_some(()));
}

#[test]
fn a_rootfs_of_several_mounts() {
    let Some(case) = world("protocol::a_rootfs_of_several_mounts") else {
        return;
    };
    let script = "while read -r line; do grep -c \" $line tmpfs \" /proc/mounts; ls $line; done";
    let bundle = case.bundle("b").sh(script);
    let root = bundle.rootfs();
    std::fs::create_dir(root.join("inner")).unwrap();
    let id = &*case.id("c");
    let about = field(1, id);
    let shim = Shim::new(&case, &bundle);
    let client = &mut shim.client();
    let mount = |kind: &str, source: &str, target: &str, options: &[&str]| {
        let options = options.iter().flat_map(|option| field(4, *option));
        let place = [field(1, kind), field(2, source), field(3, target)].concat();
        field(3, place.into_iter().chain(options).collect::<Vec<_>>())
    };
    let image = mount("bind", root.to_str().unwrap(), "", &["rbind", "ro"]);
    let inner = |target: &str| mount("tmpfs", "tmpfs", target, &["size=64k"]);
    let source = case.dir().join("source");
    std::fs::create_dir_all(source.join("seen")).unwrap();
    let innermost = mount("bind", source.to_str().unwrap(), "/inner", &["bind", "ro"]);

    let nowhere = [create(id, &bundle), image.clone(), inner("/nosuch")].concat();
    client.refuses("Create", &nowhere, UNKNOWN);
    if !kernel_at_least(6, 15) {
        let nested = [create(id, &bundle), image, inner("/inner")].concat();
        client.refuses("Create", &nested, UNKNOWN);
        return;
    }
    let mut fifos = Fifos::new(&case, "c");
    let mounts = [image, inner("/inner"), innermost].concat();
    client.ok(
        "Create",
        &[create(id, &bundle), mounts, fifos.fields()].concat(),
    );
    client.ok("Start", &about);
    fifos.write("/inner");
    fifos.expect("1");
    fifos.expect("seen");
    client.ok("Kill", &[field(1, id), number(3, 9)].concat());
    assert_eq!(number_of(&client.ok("Wait", &about), 1), 137);
    client.ok("Delete", &about);
    client.ok("Shutdown", &about);
    eventually("it ends", || shims().is_empty().then_some(()));
    case.assert_nothing_left();
}
