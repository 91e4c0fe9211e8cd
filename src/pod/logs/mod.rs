//! Container logs in the CRI format, one line per entry: `2026-01-02T03:04:05.123456789Z stdout F text`.
//!
//! `P` instead of `F` marks an entry that is not the end of its line: lines are cut at [`MAX_LINE`], and what a
//! container wrote after its last newline is a `P` too, as with containerd; also while somebody looks at its terminal. So the
//! bytes that were written can be told exactly from the entries; they need not be UTF-8.
//!
//! A container's directory is `<pod dir>/logs/<container>`. Each run has the file `<restart>.log`; when that is full it
//! becomes `<restart>.log.1`, the next one `<restart>.log.2`, and so on: the higher the newer.
//!
//! Source: `design-proposals-archive/node/kubelet-cri-logging.md` and `kubelet-config.v1beta1` (`containerLogMaxSize`,
//! `containerLogMaxFiles`) of Kubernetes.

mod printer;
mod reader;
mod tee;
mod writer;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::lifecycle::{Container, State, Time};
use crate::error::{Context, Error, Result};

pub use printer::Show;
pub use reader::{Follower, follow, print};
pub use tee::tee;
pub use writer::LogWriter;

/// Longer lines are cut, in bytes: containerd's `max_container_log_line_size`.
pub const MAX_LINE: usize = 16 * 1024;

/// Where a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One line of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'a> {
    time: &'a [u8],
    stream: Stream,
    /// Its line goes on in the next entry.
    partial: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a line of a log file, without its newline; `None` if it is not one of ours (a write was interrupted).
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let time = fields.next()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let partial = match fields.next()? {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        let text = fields.next()?;
        Some(Self {
            time,
            stream,
            partial,
            text,
        })
    }
}

/// Length of `2026-01-02T03:04:05.123456789Z stdout F `, the same for every entry that we write.
const PREFIX: usize = 40;

/// What an entry begins with.
fn prefix(time: Time, stream: Stream, partial: bool) -> String {
    let at = timestamp(time);
    let stream = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let tag = if partial { 'P' } else { 'F' };
    format!("{at} {stream} {tag} ")
}

/// Such times can be compared as text.
fn timestamp(time: Time) -> String {
    let at = Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or(Timestamp::MAX);
    format!("{at:.9}")
}

/// A log file; ordered as they were written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LogFile {
    restart: u32,
    /// [`LogFile::CURRENT`] until it is full.
    rotation: u32,
    path: PathBuf,
}

impl LogFile {
    const CURRENT: u32 = u32::MAX;

    /// Reads `<restart>.log` and `<restart>.log.<rotation>`.
    fn from_path(path: PathBuf) -> Option<Self> {
        let (restart, rest) = path.file_name()?.to_str()?.split_once(".log")?;
        let rotation = match rest.strip_prefix('.') {
            Some(n) => n.parse().ok()?,
            None if rest.is_empty() => Self::CURRENT,
            None => return None,
        };
        Some(Self {
            restart: restart.parse().ok()?,
            rotation,
            path,
        })
    }
}

/// The log files in a container's log directory, oldest first; none if there is no directory.
fn files(dir: &Path) -> Result<Vec<LogFile>> {
    let what = || format!("list {}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(what)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(LogFile::from_path(entry.context(what)?.path()));
    }
    found.sort();
    Ok(found)
}

/// Which run's log `logs` shows: its restart number.
///
/// As in Kubernetes the last run counts as the previous one as soon as the container waits for its next start.
///
/// # Errors
/// There is no such run: in Kubernetes' words, with the container's `waiting` reason.
pub fn choose_run(
    dir: &Path,
    (pod, name): (&str, &str),
    container: &Container,
    waiting: &str,
    previous: bool,
) -> Result<u32> {
    let mut runs: Vec<u32> = files(dir)?.iter().map(|f| f.restart).collect();
    runs.dedup();
    let up = matches!(container.state, State::Running { .. } | State::Terminated);
    let ran = up || container.last.is_some();
    let newest_first = runs.iter().rev();
    let chosen = match (previous, ran) {
        (_, false) => None,
        (true, true) if up => newest_first.skip(1).copied().next(),
        _ => newest_first.copied().next(),
    };
    chosen.ok_or_else(|| {
        Error::new(if previous {
            format!("previous terminated container \"{name}\" in pod \"{pod}\" not found")
        } else {
            format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {waiting}")
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::pod::lifecycle::{
        ContainerSpec, Event, Exit, Index, Kind, Pod, PodSpec, RestartPolicy,
    };

    /// 2026-01-02T03:04:05.123456789Z
    pub(super) const NOON: Time = Time(1_767_323_045_123_456_789);

    #[test]
    fn an_entry_is_a_line_with_time_stream_and_tag() {
        let full = prefix(NOON, Stream::Stdout, false);
        let partial = prefix(Time(0), Stream::Stderr, true);
        assert_eq!(full, "2026-01-02T03:04:05.123456789Z stdout F ");
        assert_eq!(partial, "1970-01-01T00:00:00.000000000Z stderr P ");
        assert_eq!((full.len(), partial.len()), (PREFIX, PREFIX));

        let line = [full.as_bytes(), b"hello  \xff world"].concat();
        let entry = Entry::parse(&line).unwrap();
        assert_eq!((entry.stream, entry.partial), (Stream::Stdout, false));
        assert_eq!(entry.time, b"2026-01-02T03:04:05.123456789Z");
        assert_eq!(entry.text, b"hello  \xff world");
        assert!(Entry::parse(partial.as_bytes()).unwrap().partial);
        assert_eq!(Entry::parse(b"2026-01-02T03:04:05Z stdo"), None);
    }

    #[test]
    fn files_are_in_the_order_in_which_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "10.log", "2.log", "2.log.10", "2.log.9", "x", "1.logs", "a.log",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<String> = files(dir.path())
            .unwrap()
            .into_iter()
            .map(|f| f.path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["2.log.9", "2.log.10", "2.log", "10.log"]);
    }

    #[test]
    fn the_run_is_chosen_as_kubernetes_does() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name| std::fs::write(dir.path().join(name), "").unwrap();
        let app = ContainerSpec::new("x", Kind::App);
        let spec = PodSpec {
            restart_policy: RestartPolicy::OnFailure,
            grace: Duration::ZERO,
            containers: vec![app],
            ..PodSpec::default()
        };
        let mut pod = Pod::new(spec, NOON);
        let mut after = |events: &[Event], previous| {
            for event in events {
                pod.step(event, NOON);
            }
            let container = &pod.containers()[0];
            choose_run(
                dir.path(),
                ("p", "x"),
                container,
                "ContainerCreating",
                previous,
            )
            .map_err(|e| e.to_string())
        };
        let container = Index(0);
        let started = Event::Started {
            container,
            pid: 2,
            id: "p.x".into(),
        };
        let exited = |code| Event::Exited {
            container,
            exit: Exit::Code(code),
            oom_killed: false,
            message: None,
        };

        let set_up = [
            Event::Accepted,
            Event::StartRequested,
            Event::VolumesReady,
            Event::SandboxStarted { pid: 1 },
        ];
        write("0.log");
        assert_eq!(
            after(&set_up, false).unwrap_err(),
            "container \"x\" in pod \"p\" is waiting to start: ContainerCreating"
        );
        assert_eq!(after(std::slice::from_ref(&started), false), Ok(0));
        assert_eq!(
            after(&[], true).unwrap_err(),
            "previous terminated container \"x\" in pod \"p\" not found"
        );

        write("1.log");
        assert_eq!(after(&[exited(1), started.clone()], false), Ok(1));
        assert_eq!(after(&[], true), Ok(0));
        // In back-off the run that ended last is both.
        assert_eq!(after(&[exited(1)], false), Ok(1));
        assert_eq!(after(&[], true), Ok(1));
    }
}
