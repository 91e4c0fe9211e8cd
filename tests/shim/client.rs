//! A client of the shim that no containerd is: it says what a test wants it to say.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::fs::{CWD, FileType, Mode};

use super::wire::{Value, bytes_of, decode, field, number_of};
use super::{binary, private_run_dir};
use crate::support::alone::alone;
use crate::support::{Bundle, Case, Need, PATIENCE};

/// `google.rpc.Code`.
pub(super) const UNKNOWN: u64 = 2;
pub(super) const INVALID_ARGUMENT: u64 = 3;
pub(super) const NOT_FOUND: u64 = 5;
pub(super) const ALREADY_EXISTS: u64 = 6;
pub(super) const RESOURCE_EXHAUSTED: u64 = 8;
pub(super) const FAILED_PRECONDITION: u64 = 9;
pub(super) const UNIMPLEMENTED: u64 = 12;

/// What a call gives: a payload, or a status' code and message.
pub(super) type Reply = Result<Vec<(u64, Value)>, (u64, String)>;

pub(super) struct Client {
    pub(super) socket: UnixStream,
    pub(super) stream: u32,
}

impl Client {
    pub(super) fn new(path: &str) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, stream: 1 }
    }

    pub(super) fn send(&mut self, service: &str, method: &str, payload: &[u8]) -> u32 {
        let request = [field(1, service), field(2, method), field(3, payload)].concat();
        self.stream += 2;
        self.send_frame(self.stream, 1, &request);
        self.stream
    }

    pub(super) fn send_frame(&mut self, stream: u32, kind: u8, data: &[u8]) {
        let mut frame = (data.len() as u32).to_be_bytes().to_vec();
        frame.extend(stream.to_be_bytes());
        frame.extend([kind, 0]);
        frame.extend(data);
        self.socket.write_all(&frame).unwrap();
    }

    pub(super) fn receive(&mut self) -> (u32, Reply) {
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

    pub(super) fn call(&mut self, method: &str, payload: &[u8]) -> Reply {
        self.call_service("containerd.task.v2.Task", method, payload)
    }

    pub(super) fn call_service(&mut self, service: &str, method: &str, payload: &[u8]) -> Reply {
        let stream = self.send(service, method, payload);
        let (answered, reply) = self.receive();
        assert_eq!(answered, stream);
        reply
    }

    /// Asks for something that is answered later, and sees to it that the question was heard.
    pub(super) fn wait_for(&mut self, service: &str, method: &str, payload: &[u8]) {
        self.send(service, method, payload);
        self.ok("Connect", &[]);
    }

    #[track_caller]
    pub(super) fn refuses(&mut self, method: &str, payload: &[u8], code: u64) {
        match self.call(method, payload) {
            Err((got, message)) => {
                assert_eq!(got, code, "{method}: {message}");
                assert!(!message.is_empty(), "{method} says nothing");
            }
            Ok(answer) => panic!("{method} {payload:?}: {answer:?}"),
        }
    }

    #[track_caller]
    pub(super) fn ok(&mut self, method: &str, payload: &[u8]) -> Vec<(u64, Value)> {
        match self.call(method, payload) {
            Ok(answer) => answer,
            Err(e) => panic!("{method}: {e:?}"),
        }
    }
}

/// A shim that no containerd has started.
pub(super) struct Shim {
    pub(super) path: String,
}

impl Shim {
    pub(super) fn new(case: &Case, bundle: &Bundle<'_>) -> Self {
        Self::with_options(case, bundle, &[])
    }

    /// What containerd 2.1 says on standard input: the runtime's options, an `Any`.
    pub(super) fn with_options(case: &Case, bundle: &Bundle<'_>, options: &[u8]) -> Self {
        let input = case.dir().join("options");
        std::fs::write(&input, options).unwrap();
        let mut start = Command::new(binary());
        start
            .args(["-namespace", "test", "-address"])
            .arg(case.dir().join("nobody.sock"))
            .args(["-id", "c", "start"])
            .current_dir(bundle.rootfs().join(".."))
            .env("RUNP_TEST", &case.token)
            .stdin(File::open(input).unwrap());
        let done = case.finish(start).ok();
        let path = done.stdout.strip_prefix("unix://").unwrap().to_owned();
        Self { path }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.path)
    }
}

/// What takes a shim's events, as containerd does; without one the shim keeps them, and looks for containerd every second.
#[derive(Clone)]
pub(super) struct Listener(Arc<Mutex<Vec<String>>>);

impl Listener {
    /// Before the shim is made.
    pub(super) fn new(case: &Case) -> Self {
        let path = case.dir().join("nobody.sock.ttrpc");
        let listener = UnixListener::bind(path).unwrap();
        let topics = Self(Arc::default());
        let here = topics.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                // The shim has one connection at a time.
                while here.take(socket.as_ref().unwrap()).is_some() {}
            }
        });
        topics
    }

    /// An event, which is taken; `None` at the end.
    fn take(&self, mut socket: &UnixStream) -> Option<()> {
        let mut header = [0; 10];
        socket.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes(header[..4].try_into().unwrap());
        let mut data = vec![0; length as usize];
        socket.read_exact(&mut data).ok()?;
        let envelope = bytes_of(&decode(&bytes_of(&decode(&data), 3)), 1);
        let topic = String::from_utf8(bytes_of(&decode(&envelope), 3)).unwrap();
        self.0.lock().unwrap().push(topic);
        let mut answer = vec![0, 0, 0, 0];
        answer.extend(&header[4..8]);
        answer.extend([2, 0]);
        socket.write_all(&answer).ok()
    }

    /// The topics of all events.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// How many of this topic it has heard of.
    pub(super) fn count(&self, topic: &str) -> usize {
        let topics = self.0.lock().unwrap();
        topics.iter().filter(|other| *other == topic).count()
    }
}

/// A fifo, as containerd makes them.
pub(super) fn fifo(case: &Case, name: &str) -> PathBuf {
    let path = case.dir().join(name);
    let mode = Mode::from_raw_mode(0o700);
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
    path
}

/// Those of a task, open in both directions.
pub(super) struct Fifos {
    pub(super) stdin: PathBuf,
    pub(super) stdout: PathBuf,
    pub(super) input: Option<File>,
    pub(super) output: BufReader<File>,
}

impl Fifos {
    pub(super) fn new(case: &Case, name: &str) -> Self {
        let make = |end: &str| {
            let path = fifo(case, &format!("{name}-{end}"));
            let file = File::options().read(true).write(true).open(&path).unwrap();
            (path, file)
        };
        let ((stdin, input), (stdout, output)) = (make("in"), make("out"));
        Self {
            stdin,
            stdout,
            input: Some(input),
            output: BufReader::new(output),
        }
    }

    /// Of Create's message.
    pub(super) fn fields(&self) -> Vec<u8> {
        let [stdin, stdout] = [&self.stdin, &self.stdout].map(|path| path.to_str().unwrap());
        [field(5, stdin), field(6, stdout)].concat()
    }

    pub(super) fn write(&mut self, line: &str) {
        let mut input = self.input.as_ref().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Waits for this line; a terminal shows what is typed, too.
    #[track_caller]
    pub(super) fn expect(&mut self, expected: &str) {
        for _ in 0..20 {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            if line.trim_end() == expected {
                return;
            }
        }
        panic!("{expected:?} does not come");
    }
}

/// Create's message.
pub(super) fn create(id: &str, bundle: &Bundle<'_>) -> Vec<u8> {
    let root = bundle.rootfs();
    let path = root.parent().unwrap();
    [field(1, id), field(2, path.to_str().unwrap())].concat()
}

/// Exec's message: a shell script.
pub(super) fn exec_of(id: &str, exec_id: &str, script: &str) -> Vec<u8> {
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

/// A world for a test that is alone; `test` is its name below `shim`.
pub(super) fn world(test: &str) -> Option<Case> {
    if !alone(&format!("shim::{test}")) {
        return None;
    }
    let case = Case::new(&[Need::Runp])?;
    private_run_dir();
    Some(case)
}
