//! What kubectl has the kubelet ask for: exec, attach and port-forward over WebSockets, as containerd's CRI serves them to the
//! kubelet's clients, and logs that are rotated.

use std::fs::{self, File};

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use super::cri::{Cri, Fields, string};
use super::wire::{field, number};
use crate::support::{Case, PATIENCE, eventually};

/// The channels of `v4.channel.k8s.io`, the first byte of each message; 2 is standard error, 3 what becomes of it all.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const RESIZE: u8 = 4;

/// A read timeout for who asks again.
const SHORT: Duration = Duration::from_millis(500);

/// A connection to containerd's streaming server.
struct Stream(WebSocket<TcpStream>);

impl Stream {
    /// To the address in an answer. The server is in containerd's network.
    fn new(cri: &Cri<'_>, answer: &Fields, query: &str) -> Self {
        let url = string(answer, 1).replacen("http://", "ws://", 1) + query;
        let mut request = url.into_client_request().unwrap();
        let protocol = "v4.channel.k8s.io".parse().unwrap();
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", protocol);
        let address = request.uri().authority().unwrap().to_string();
        let network = File::open(cri.network()).unwrap();
        let connect = move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).unwrap();
            TcpStream::connect(address).unwrap()
        };
        let socket = std::thread::spawn(connect).join().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (stream, _) = tungstenite::client(request, socket).unwrap();
        Self(stream)
    }

    fn write(&mut self, channel: u8, data: impl AsRef<[u8]>) {
        let message = [&[channel], data.as_ref()].concat();
        self.0.send(Message::binary(message)).unwrap();
    }

    /// The next message that is not empty; `None` at the end, and when a short timeout is over.
    fn read(&mut self) -> Option<(u8, String)> {
        loop {
            match self.0.read() {
                Ok(Message::Binary(data)) if data.len() > 1 => {
                    let text = String::from_utf8_lossy(&data[1..]).into_owned();
                    return Some((data[0], text));
                }
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return None,
                Ok(_) => {}
                // The server closes without a farewell.
                Err(tungstenite::Error::Protocol(_)) => return None,
                Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => {
                    let timeout = self.0.get_ref().read_timeout().unwrap();
                    assert_eq!(timeout, Some(SHORT), "nothing comes");
                    return None;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Reads from this channel until it has said this.
    #[track_caller]
    fn expect(&mut self, channel: u8, text: &str) {
        let mut said = String::new();
        while let Some((from, part)) = self.read() {
            if from == channel {
                said += &part;
            }
            if said.contains(text) {
                return;
            }
        }
        panic!("{text:?} does not come: {said:?}");
    }

    /// All that is still said: on standard output, on standard error, and at the end of all.
    fn rest(mut self) -> [String; 3] {
        let mut said = [const { String::new() }; 3];
        while let Some((channel, text)) = self.read() {
            said[usize::from(channel - STDOUT)] += &text;
        }
        said
    }
}

/// ExecRequest, and AttachRequest without a command.
fn request(container: &str, command: &[&str], tty: bool, numbers: [u8; 4]) -> Vec<u8> {
    let words = command.iter().flat_map(|word| field(2, word));
    let [terminal, stdin, stdout, stderr] = numbers;
    let flags = [
        number(terminal, u64::from(tty)),
        number(stdin, 1),
        number(stdout, 1),
        number(stderr, u64::from(!tty)),
    ];
    [field(1, container), words.collect(), flags.concat()].concat()
}

/// Exec with and without a terminal: input, both outputs, the exit code, the size.
pub(super) fn exec(cri: &Cri<'_>, app: &str) {
    let exec = |command: &[&str], tty| {
        let request = request(app, command, tty, [3, 4, 5, 6]);
        Stream::new(cri, &cri.call("Exec", &request), "")
    };
    let mut plain = exec(
        &["sh", "-c", "read x; echo got $x; echo bad >&2; exit 3"],
        false,
    );
    plain.write(STDIN, "hello\n");
    let [stdout, stderr, status] = plain.rest();
    assert_eq!((&*stdout, &*stderr), ("got hello\n", "bad\n"), "{status}");
    assert!(status.contains("\"3\""), "{status}");
    let good = exec(&["sh", "-c", "seq 20000"], false).rest();
    assert_eq!(good[0].lines().count(), 20_000, "to the last line");
    assert!(good[2].contains("Success"), "{good:?}");

    let mut terminal = exec(&["sh"], true);
    terminal.write(RESIZE, r#"{"Width":101,"Height":41}"#);
    eventually("the terminal has that size", || {
        terminal.write(STDIN, "stty size\n");
        let (_, said) = terminal.read()?;
        said.contains("41 101").then_some(())
    });
    terminal.write(STDIN, "exit 0\n");
    let [_, _, status] = terminal.rest();
    assert!(status.contains("Success"), "{status}");
}

/// Attach to a container that repeats what it reads, and leave it, and come back.
pub(super) fn attach(cri: &Cri<'_>, pod: &str, config: &[u8]) {
    // stdin, and not only once.
    let more = number(12, 1);
    let echo = cri.create_with(pod, config, "echo", "while read x; do echo $x; done", &more);
    cri.start(&echo);
    for word in ["one", "two"] {
        let request = request(&echo, &[], false, [3, 2, 4, 5]);
        let mut stream = Stream::new(cri, &cri.call("Attach", &request), "");
        // Who attaches sees what is written from then on, and input may come through before.
        stream.0.get_ref().set_read_timeout(Some(SHORT)).unwrap();
        eventually("it is repeated", || {
            stream.write(STDIN, format!("{word}\n"));
            let (channel, said) = stream.read()?;
            (channel == STDOUT && said.contains(word)).then_some(())
        });
    }
    cri.call("StopContainer", &[field(1, &echo), number(2, 0)].concat());
    cri.call("RemoveContainer", &field(1, &echo));
}

/// A port of the pod, whoever listens there.
pub(super) fn port_forward(cri: &Cri<'_>, pod: &str, config: &[u8]) {
    const PORT: u16 = 7070;
    let script = "while :; do nc -l -p 7070 -e sh -c 'read x; echo back:$x; read x'; done";
    let server = cri.create(pod, config, "server", script);
    cri.start(&server);
    eventually("it listens", || {
        let (ports, _) = cri.exec(&server, &["cat", "/proc/net/tcp", "/proc/net/tcp6"]);
        ports.contains(":1B9E").then_some(())
    });
    let request = [field(1, pod), number(2, PORT.into())].concat();
    let answer = cri.call("PortForward", &request);
    let mut stream = Stream::new(cri, &answer, "?port=7070");
    // Each of its two channels, data and errors, begins with the port.
    let port = String::from_utf8_lossy(&PORT.to_le_bytes()).into_owned();
    for _ in 0..2 {
        assert_eq!(stream.read().unwrap().1, port);
    }
    stream.write(0, "hello\n");
    stream.expect(0, "back:hello\n");
    drop(stream);
    cri.call("StopContainer", &[field(1, &server), number(2, 0)].concat());
    cri.call("RemoveContainer", &field(1, &server));
}

/// A log that is moved away while it is written to: no line is lost, and none is there twice.
pub(super) fn rotate_log(cri: &Cri<'_>, case: &Case, pod: &str, config: &[u8]) {
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";
    let counts = cri.create(pod, config, "counts", script);
    let (log, old) = (
        case.dir().join("logs/counts.log"),
        case.dir().join("logs/old"),
    );
    // Of another pod.
    let _ = fs::remove_file(&log);
    cri.start(&counts);
    let lines = |path| fs::read_to_string(path).map_or(0, |text| text.lines().count());
    eventually("it has written", || (lines(&log) > 5).then_some(()));
    fs::rename(&log, &old).unwrap();
    cri.call("ReopenContainerLog", &field(1, &counts));
    eventually("it goes on", || (lines(&log) > 5).then_some(()));
    cri.call("StopContainer", &[field(1, &counts), number(2, 0)].concat());
    let text = fs::read_to_string(&old).unwrap() + &fs::read_to_string(&log).unwrap();
    for (n, line) in text.lines().enumerate() {
        let mut words = line.split(' ').skip(1);
        let expected = ["stdout", "F", &n.to_string()].map(str::to_owned);
        assert!(words.by_ref().eq(expected), "line {n}: {line}");
    }
    cri.call("RemoveContainer", &field(1, &counts));
}

/// A limit that is changed while it runs.
pub(super) fn update(cri: &Cri<'_>, app: &str) {
    let limit = 64_u64 << 20;
    let linux = field(2, number(4, limit));
    cri.call("UpdateContainerResources", &[field(1, app), linux].concat());
    let files = ["memory.max", "memory/memory.limit_in_bytes"];
    let script = files.map(|file| format!("cat /sys/fs/cgroup/{file} 2>/dev/null"));
    let (said, _) = cri.exec(app, &["sh", "-c", &script.join("; ")]);
    assert_eq!(said.trim(), limit.to_string());
}
