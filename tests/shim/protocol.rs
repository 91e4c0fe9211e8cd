//! Calls that no containerd makes: malformed, out of order, repeated. Each gets the right code, and the shim lives on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::wire::{Value, decode, field, number, number_of};
use super::{binary, private_run_dir, shims};
use crate::support::alone::alone;
use crate::support::{Bundle, Case, Need, PATIENCE, eventually, process};

const INVALID_ARGUMENT: u64 = 3;
const NOT_FOUND: u64 = 5;
const ALREADY_EXISTS: u64 = 6;
const RESOURCE_EXHAUSTED: u64 = 8;
const FAILED_PRECONDITION: u64 = 9;
const UNIMPLEMENTED: u64 = 12;

/// What a call gives: a payload, or a status' code and message.
type Reply = Result<Vec<(u64, Value)>, (u64, String)>;

struct Client {
    socket: UnixStream,
    stream: u32,
}

impl Client {
    fn new(path: &str) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, stream: 1 }
    }

    fn send(&mut self, service: &str, method: &str, payload: &[u8]) -> u32 {
        let request = [field(1, service), field(2, method), field(3, payload)].concat();
        self.stream += 2;
        self.send_frame(self.stream, 1, &request);
        self.stream
    }

    fn send_frame(&mut self, stream: u32, kind: u8, data: &[u8]) {
        let mut frame = (data.len() as u32).to_be_bytes().to_vec();
        frame.extend(stream.to_be_bytes());
        frame.extend([kind, 0]);
        frame.extend(data);
        self.socket.write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> (u32, Reply) {
        let mut header = [0; 10];
        self.socket.read_exact(&mut header).unwrap();
        let length = u32::from_be_bytes(header[..4].try_into().unwrap());
        let stream = u32::from_be_bytes(header[4..8].try_into().unwrap());
        assert_eq!(header[8], 2, "a response");
        let mut data = vec![0; length as usize];
        self.socket.read_exact(&mut data).unwrap();
        let mut payload = Vec::new();
        for (number, value) in decode(&data) {
            match (number, value) {
                (1, Value::Bytes(status)) => {
                    let status = decode(&status);
                    let message = status.iter().find_map(|(field, value)| match value {
                        Value::Bytes(text) if *field == 2 => Some(text.clone()),
                        _ => None,
                    });
                    let message = String::from_utf8(message.unwrap_or_default()).unwrap();
                    return (stream, Err((number_of(&status, 1), message)));
                }
                (2, Value::Bytes(bytes)) => payload = bytes,
                other => panic!("{other:?}"),
            }
        }
        (stream, Ok(decode(&payload)))
    }

    fn call(&mut self, method: &str, payload: &[u8]) -> Reply {
        self.call_service("containerd.task.v2.Task", method, payload)
    }

    fn call_service(&mut self, service: &str, method: &str, payload: &[u8]) -> Reply {
        let stream = self.send(service, method, payload);
        let (answered, reply) = self.receive();
        assert_eq!(answered, stream);
        reply
    }

    #[track_caller]
    fn refuses(&mut self, method: &str, payload: &[u8], code: u64) {
        match self.call(method, payload) {
            Err((got, message)) => {
                assert_eq!(got, code, "{method}: {message}");
                assert!(!message.is_empty(), "{method} says nothing");
            }
            Ok(answer) => panic!("{method} {payload:?}: {answer:?}"),
        }
    }

    #[track_caller]
    fn ok(&mut self, method: &str, payload: &[u8]) -> Vec<(u64, Value)> {
        match self.call(method, payload) {
            Ok(answer) => answer,
            Err(e) => panic!("{method}: {e:?}"),
        }
    }
}

/// A shim that no containerd has started.
struct Shim {
    path: String,
}

impl Shim {
    fn new(case: &Case, bundle: &Bundle<'_>) -> Self {
        let mut start = Command::new(binary());
        start
            .args(["-namespace", "test", "-address"])
            .arg(case.dir().join("nobody.sock"))
            .args(["-id", "c", "start"])
            .current_dir(bundle.rootfs().join(".."))
            .env("RUNP_TEST", &case.token)
            .stdin(Stdio::null());
        let done = case.finish(start).ok();
        let path = done.stdout.strip_prefix("unix://").unwrap().to_owned();
        Self { path }
    }

    fn client(&self) -> Client {
        Client::new(&self.path)
    }
}

/// Create's message.
fn create(id: &str, bundle: &Bundle<'_>) -> Vec<u8> {
    let root = bundle.rootfs();
    let path = root.parent().unwrap();
    [field(1, id), field(2, path.to_str().unwrap())].concat()
}

fn world(test: &str) -> Option<Case> {
    if !alone(&format!("shim::protocol::{test}")) {
        return None;
    }
    let case = Case::new(&[Need::Runp])?;
    private_run_dir();
    Some(case)
}

#[test]
fn every_call_about_nothing_is_refused() {
    let Some(case) = world("every_call_about_nothing_is_refused") else {
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
    for method in ["NoSuch", "", "Checkpoint"] {
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
    let Some(case) = world("frames_that_make_no_sense_harm_nobody") else {
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
    let Some(case) = world("calls_out_of_order_are_refused") else {
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
    let Some(case) = world("an_end_is_told_to_all_who_wait_and_whoever_asks_later") else {
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

/// Exec's message: a shell script.
fn exec_of(id: &str, exec_id: &str, script: &str) -> Vec<u8> {
    let process = serde_json::json!({
        "args": ["/bin/sh", "-c", script],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
    });
    let any = [
        field(
            1,
            "types.containerd.io/opencontainers/runtime-spec/1/Process",
        ),
        field(2, process.to_string()),
    ];
    [field(1, id), field(2, exec_id), field(7, any.concat())].concat()
}

#[test]
fn no_end_is_lost_and_nothing_grows() {
    let Some(case) = world("no_end_is_lost_and_nothing_grows") else {
        return;
    };
    let runs = std::env::var("RUNP_TEST_CYCLES").map_or(300, |runs| runs.parse().unwrap());
    let stays = case.bundle("stays").sh("sleep 1000");
    let ends = case.bundle("ends").sh("exit 7");
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
    // Events are kept for a containerd that never comes: half a kilobyte for each.
    let kept = (runs - 50) * 8 * 512 / 1024;
    assert!(
        memory_then <= memory + kept + 64,
        "{memory} kB, then {memory_then} kB"
    );
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
    let Some(case) = world("an_idle_shim_sleeps_and_is_small") else {
        return;
    };
    let bundle = case.bundle("b").sh("sleep 1000");
    let id = &*case.id("c");
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
    // Its code is not needed any more, of which this build has far more than the released one.
    eventually("it rests", || {
        (process::memory(pid).proportional <= 2048).then_some(())
    });
    client.ok("Kill", &[field(1, id), number(3, 9)].concat());
    client.ok("Wait", &field(1, id));
    client.ok("Delete", &field(1, id));
    client.ok("Shutdown", &[]);
    eventually("it ends", || shims().is_empty().then_some(()));
}
