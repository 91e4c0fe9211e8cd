//! A shim that makes nothing, and says that it has: what a pod costs with it is what containerd and CNI cost themselves.
//! `scripts/bench shim` puts it beside runp's and runc's.

// It only measures: what fails ends it.
#![allow(clippy::unwrap_used)]

// One way to write protobuf down is enough; not all of it is needed here.
#[allow(dead_code)]
#[path = "../tests/shim/wire.rs"]
mod wire;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use wire::{Value, bytes_of, decode, field, number};

/// Whatever is waited for by this name.
const SANDBOX: &str = "/sandbox";

#[derive(Default)]
struct State {
    ended: Mutex<HashSet<String>>,
    end: Condvar,
    /// Where outputs would go: open until their process has ended.
    outputs: Mutex<HashMap<String, Vec<File>>>,
}

impl State {
    fn begin(&self, name: &str, outputs: [&str; 2]) {
        let open = |path: &&str| File::options().read(true).write(true).open(path).ok();
        let files = outputs.iter().filter_map(open).collect();
        self.outputs.lock().unwrap().insert(name.into(), files);
        self.ended.lock().unwrap().remove(name);
    }

    fn end(&self, name: &str) {
        self.outputs.lock().unwrap().remove(name);
        self.ended.lock().unwrap().insert(name.into());
        self.end.notify_all();
    }

    fn wait(&self, name: &str) {
        let ended = self.ended.lock().unwrap();
        let runs = |ended: &mut HashSet<String>| !ended.contains(name);
        drop(self.end.wait_while(ended, runs).unwrap());
    }

    fn has_ended(&self, name: &str) -> bool {
        self.ended.lock().unwrap().contains(name)
    }
}

fn now() -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    [
        number(1, now.as_secs()),
        number(2, now.subsec_nanos().into()),
    ]
    .concat()
}

fn pid() -> u64 {
    std::process::id().into()
}

/// What DeleteResponse says, in both of its forms.
fn deleted() -> Vec<u8> {
    [number(1, pid()), number(2, 137), field(3, now())].concat()
}

/// The answer to a call, however long it takes.
fn answer(state: &State, method: &str, request: &[(u64, Value)]) -> Vec<u8> {
    let text = |wanted| String::from_utf8(bytes_of(request, wanted)).unwrap_or_default();
    let (id, exec) = (text(1), text(2));
    let name = match exec.as_str() {
        "" => id.clone(),
        exec => format!("{id}/{exec}"),
    };
    match method {
        "Create" => {
            state.begin(&id, [&text(6), &text(7)]);
            number(1, pid())
        }
        "Exec" => {
            state.begin(&name, [&text(5), &text(6)]);
            Vec::new()
        }
        "Start" => {
            if !exec.is_empty() {
                state.end(&name);
            }
            number(1, pid())
        }
        "Kill" => {
            state.end(&name);
            Vec::new()
        }
        "Wait" => {
            state.wait(&name);
            let status = if exec.is_empty() { 137 } else { 0 };
            [number(1, status), field(2, now())].concat()
        }
        "Delete" => deleted(),
        "State" => {
            let status = if state.has_ended(&name) { 3 } else { 2 };
            [
                field(1, &id),
                number(3, pid()),
                number(4, status),
                field(11, &exec),
            ]
            .concat()
        }
        "Connect" => [number(1, pid()), number(2, pid())].concat(),
        "Pids" => field(1, number(1, pid())),
        "StartSandbox" => {
            state.begin(SANDBOX, ["", ""]);
            [number(1, pid()), field(2, now())].concat()
        }
        "Platform" => field(1, [field(1, "linux"), field(2, "amd64")].concat()),
        "SandboxStatus" => {
            let ready = if state.has_ended(SANDBOX) {
                "SANDBOX_NOTREADY"
            } else {
                "SANDBOX_READY"
            };
            [
                field(1, id),
                number(2, pid()),
                field(3, ready),
                field(5, now()),
            ]
            .concat()
        }
        "WaitSandbox" => {
            state.wait(SANDBOX);
            [number(1, 137), field(2, now())].concat()
        }
        "StopSandbox" => {
            state.end(SANDBOX);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

type Fields = Vec<(u64, Value)>;

/// The next request: its stream, its method, its message.
fn receive(socket: &mut UnixStream) -> Option<(u32, String, Fields)> {
    let mut header = [0; 10];
    socket.read_exact(&mut header).ok()?;
    let [l0, l1, l2, l3, s0, s1, s2, s3, ..] = header;
    let mut data = vec![0; u32::from_be_bytes([l0, l1, l2, l3]) as usize];
    socket.read_exact(&mut data).ok()?;
    let request = decode(&data);
    let method = String::from_utf8(bytes_of(&request, 2)).ok()?;
    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
    Some((stream, method, decode(&bytes_of(&request, 3))))
}

fn serve(state: &Arc<State>, mut socket: UnixStream) {
    let answers = Arc::new(Mutex::new(socket.try_clone().unwrap()));
    while let Some((stream, method, request)) = receive(&mut socket) {
        let (state, answers) = (state.clone(), answers.clone());
        let call = move || {
            let response = field(2, answer(&state, &method, &request));
            let mut frame = (response.len() as u32).to_be_bytes().to_vec();
            frame.extend(stream.to_be_bytes());
            frame.extend([2, 0]);
            frame.extend(response);
            let _ = answers.lock().unwrap().write_all(&frame);
            let is_idle = method == "Shutdown" && state.outputs.lock().unwrap().is_empty();
            if method == "ShutdownSandbox" || is_idle {
                // A client that finds the end together with the answer sees the end only.
                std::thread::sleep(Duration::from_millis(200));
                std::process::exit(0);
            }
        };
        std::thread::spawn(call);
    }
}

/// The pod that has a shim already, if the working directory is the bundle of a container.
fn pod() -> Option<String> {
    let config = std::fs::read("config.json").ok()?;
    let config: serde_json::Value = serde_json::from_slice(&config).ok()?;
    let pod = &config["annotations"]["io.kubernetes.cri.sandbox-id"];
    pod.as_str().map(str::to_owned)
}

// What serves outlives what starts it: that is what it is for.
#[allow(clippy::zombie_processes)]
fn main() {
    let words: Vec<_> = std::env::args().collect();
    match words.last().map(String::as_str) {
        Some("start") => {
            let id = words
                .iter()
                .skip_while(|word| *word != "-id")
                .nth(1)
                .unwrap();
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
            // That of a pause image is in its own pod.
            let pod = pod().filter(|pod| pod != id);
            let path = format!("/run/containerd/stub-{}.sock", pod.as_ref().unwrap_or(id));
            if pod.is_none() {
                let listener = UnixListener::bind(&path).unwrap();
                Command::new(&words[0])
                    .arg("serve")
                    .stdin(OwnedFd::from(listener))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
            }
            print!(r#"{{"version":2,"address":"unix://{path}","protocol":"ttrpc"}}"#);
        }
        Some("serve") => {
            let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
            let state = Arc::<State>::default();
            for socket in UnixListener::from(listener).incoming() {
                let state = state.clone();
                std::thread::spawn(move || serve(&state, socket.unwrap()));
            }
        }
        Some("delete") => std::io::stdout().write_all(&deleted()).unwrap(),
        _ => {}
    }
}
