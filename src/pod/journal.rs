//! The pod's append-only journal: one JSON object per line, in the file `journal`.
//!
//! ```text
//! {"time":1,"pod":{"version":1,"name":"p","namespace":"default","uid":"...","bootId":"...","spec":{...}}}
//! {"time":2,"supervisor":{"pid":17,"startTime":4711}}
//! {"time":3,"event":{"type":"accepted"}}
//! ```
//!
//! What a pod was and is follows from it alone: status, timeline and diagnosis replay it, and so does a supervisor
//! that takes a pod over. That is why an event is written before any action that follows from it is carried out. Not
//! synced to disk: it has to survive the death of a process, and is worthless after a reboot.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lifecycle::{Action, Event, Pod, PodSpec, Time};
use crate::error::{Context, Error, Result};

/// The version of the format that this program writes and reads.
const VERSION: u32 = 1;

/// The first entry: whose journal it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Description {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `/proc/sys/kernel/random/boot_id`: pids in this journal mean nothing after a reboot.
    pub boot_id: String,
    /// What the lifecycle was made from.
    pub spec: PodSpec,
}

/// Who carries the pod's actions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Supervisor {
    /// In the initial pid namespace.
    pub pid: i32,
    /// Clock ticks after boot, the 22nd field of `/proc/<pid>/stat`: tells a process from a later one with its pid.
    pub start_time: u64,
}

/// Every entry but the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// Something happened.
    Event(Event),
    /// Somebody took over the supervision.
    Supervisor(Supervisor),
}

/// The line of an entry.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    time: Time,
    #[serde(flatten)]
    entry: T,
}

/// The line of the description.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    time: Time,
    pod: Versioned,
}

/// The version is looked at before anything else of the description.
#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    description: serde_json::Value,
}

/// A journal to append to. There is one writer: the pod's supervisor, which holds the pod's lock.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Of the whole entries in the file.
    length: u64,
}

impl Journal {
    /// Begins the journal of a new pod.
    ///
    /// # Errors
    /// The file exists, or cannot be made or written.
    pub fn create(path: &Path, pod: &Description, now: Time) -> Result<Self> {
        let file = appending()
            .create_new(true)
            .mode(0o600)
            .open(path)
            .context(|| format!("create journal {}", path.display()))?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            length: 0,
        };
        let description = json(pod, path)?;
        let version = VERSION;
        journal.write(&First {
            time: now,
            pod: Versioned {
                version,
                description,
            },
        })?;
        Ok(journal)
    }

    /// Opens the journal of a pod that is there, to take it over. A torn last line is cut off: what it was to say
    /// has not been acted on.
    ///
    /// # Errors
    /// The file cannot be opened, read or cut.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || format!("open journal {}", path.display());
        let mut file = appending().read(true).open(path).context(open)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).context(open)?;
        let length = whole_lines(&text) as u64;
        if length < text.len() as u64 {
            file.set_len(length)
                .context(|| format!("cut the torn last line off journal {}", path.display()))?;
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            length,
        })
    }

    /// Appends one entry, with one write(2).
    ///
    /// # Errors
    /// Disk full (ENOSPC), quota, ...: then the journal is as it was before.
    pub fn append(&mut self, time: Time, entry: &Entry) -> Result<()> {
        self.write(&Line { time, entry })
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(line)
            .map_err(|e| Error::new(format!("append to journal {}: {e}", self.path.display())))?;
        line.push(b'\n');
        // A full disk takes what still fits; the next write of the rest then says why.
        if let Err(e) = self.file.write_all(&line) {
            let error = Error::sys(format!("append to journal {}", self.path.display()), e)
                .hint("free some space: a pod must be able to record what happens to it");
            let cleanup = self.file.set_len(self.length);
            return Err(error.and_cleanup(cleanup.context(|| "cut off the torn entry")));
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

fn appending() -> OpenOptions {
    let mut options = File::options();
    options.append(true);
    options
}

fn json(pod: &Description, path: &Path) -> Result<serde_json::Value> {
    serde_json::to_value(pod)
        .map_err(|e| Error::new(format!("write journal {}: {e}", path.display())))
}

/// A journal that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub pod: Description,
    /// When the pod was made.
    pub created: Time,
    /// All entries but the first, in order.
    pub entries: Vec<(Time, Entry)>,
    /// The number of the last line, if it was only partly written and has been left out.
    pub torn: Option<usize>,
}

/// Reads a whole journal.
///
/// # Errors
/// The file cannot be read, was written by another version of this program, or a line is not an entry: named by its
/// number. A torn last line is no error; see [`Record::torn`].
pub fn read(path: &Path) -> Result<Record> {
    let step = || format!("read journal {}", path.display());
    let text = std::fs::read(path).context(step)?;
    parse(&text).context(step)
}

/// Reads a journal from memory: see [`read`].
///
/// # Errors
/// A line is not an entry.
pub fn parse(text: &[u8]) -> Result<Record> {
    let whole = whole_lines(text);
    let mut lines = text[..whole]
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate();
    let Some((_, first)) = lines.next() else {
        return Err(Error::new("it has no first entry")
            .hint("the pod's creation was interrupted; delete the pod"));
    };
    let (created, pod) = description(first).context(|| "line 1")?;
    let mut entries = Vec::new();
    for (i, line) in lines {
        let entry: Line<Entry> = entry(line).context(|| format!("line {}", i + 1))?;
        entries.push((entry.time, entry.entry));
    }
    let torn = (whole < text.len()).then_some(entries.len() + 2);
    Ok(Record {
        pod,
        created,
        entries,
        torn,
    })
}

fn description(line: &[u8]) -> Result<(Time, Description)> {
    let First { time, pod } = entry(line)?;
    if pod.version != VERSION {
        return Err(Error::new(format!(
            "its format is version {}, and this program reads version {VERSION}",
            pod.version
        ))
        .hint("use the runp that made the pod"));
    }
    let description =
        serde_json::from_value(pod.description).map_err(|e| Error::new(format!("pod: {e}")))?;
    Ok((time, description))
}

fn entry<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|e| Error::new(e.to_string()))
}

/// How many bytes the lines have that end as they should.
fn whole_lines(text: &[u8]) -> usize {
    text.iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1)
}

impl Record {
    /// The pod as it is after the last entry.
    #[must_use]
    pub fn replay(&self) -> Pod {
        self.visit(|_, _, _, _| {})
    }

    /// The same, and shows every event with the pod just after it and the actions that followed.
    pub fn visit(&self, mut after: impl FnMut(Time, &Event, &Pod, &[Action])) -> Pod {
        let mut pod = Pod::new(self.pod.spec.clone(), self.created);
        for (time, entry) in &self.entries {
            if let Entry::Event(event) = entry {
                let actions = pod.step(event, *time);
                after(*time, event, &pod, &actions);
            }
        }
        pod
    }

    /// Who supervised the pod last; `None` if nobody ever did.
    #[must_use]
    pub fn supervisor(&self) -> Option<Supervisor> {
        self.entries
            .iter()
            .rev()
            .find_map(|(_, entry)| match entry {
                Entry::Supervisor(supervisor) => Some(*supervisor),
                Entry::Event(_) => None,
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::pod::lifecycle::{ContainerSpec, Exit, Index, Kind, Phase, RestartPolicy};
    use std::time::Duration;

    fn pod() -> Description {
        Description {
            name: "p".into(),
            namespace: "default".into(),
            uid: "u".into(),
            boot_id: "b".into(),
            spec: PodSpec {
                restart_policy: RestartPolicy::Never,
                grace: Duration::from_secs(30),
                containers: vec![ContainerSpec::new("a", Kind::App)],
                ..PodSpec::default()
            },
        }
    }

    fn a_life() -> Vec<Event> {
        let container = Index(0);
        vec![
            Event::Accepted,
            Event::StartRequested,
            Event::VolumesReady,
            Event::SandboxStarted { pid: 2 },
            Event::Started {
                container,
                pid: 3,
                id: "p.a".into(),
            },
            Event::StopRequested {
                grace: Some(Duration::from_millis(1500)),
            },
            Event::Exited {
                container,
                exit: Exit::Signal(15),
                oom_killed: false,
                message: None,
            },
            Event::SandboxExited,
        ]
    }

    fn write_a_life(path: &Path) -> Pod {
        let mut journal = Journal::create(path, &pod(), Time(1)).unwrap();
        let supervisor = Supervisor {
            pid: 17,
            start_time: 4711,
        };
        journal
            .append(Time(2), &Entry::Supervisor(supervisor))
            .unwrap();
        let mut live = Pod::new(pod().spec, Time(1));
        for (time, event) in (3..).zip(a_life()) {
            let entry = Entry::Event(event.clone());
            journal.append(Time(time), &entry).unwrap();
            live.step(&event, Time(time));
        }
        live
    }

    #[test]
    fn what_is_replayed_is_what_was_lived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let live = write_a_life(&path);
        let record = read(&path).unwrap();
        assert_eq!(record.replay(), live);
        assert!(live.finished());
        assert_eq!(live.phase(), Phase::Failed);
        assert_eq!(record.pod, pod());
        assert_eq!(record.supervisor().unwrap().start_time, 4711);
        assert_eq!(record.torn, None);
        let mut seen = Vec::new();
        record.visit(|_, event, pod, actions| {
            seen.push((event.clone(), pod.phase(), actions.len()));
        });
        assert_eq!(seen.len(), a_life().len());
        assert_eq!(seen[5].2, 1, "a stop signals the container");
    }

    #[test]
    fn a_torn_last_line_is_reported_and_cut_off_by_the_next_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        write_a_life(&path);
        let whole = read(&path).unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        let last = std::fs::read_to_string(&path).unwrap();
        let last = last.lines().last().unwrap().len() as u64;
        for cut in 1..=last {
            let torn = dir.path().join("torn");
            std::fs::copy(&path, &torn).unwrap();
            let file = File::options().write(true).open(&torn).unwrap();
            file.set_len(length - cut).unwrap();
            let record = read(&torn).unwrap();
            assert_eq!(record.torn, Some(10), "{cut} bytes cut off");
            assert_eq!(record.entries[..], whole.entries[..whole.entries.len() - 1]);
            let mut journal = Journal::open(&torn).unwrap();
            journal
                .append(Time(10), &Entry::Event(Event::SandboxExited))
                .unwrap();
            assert_eq!(read(&torn).unwrap(), whole);
        }
    }

    #[test]
    fn everything_else_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        write_a_life(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        let spoilt = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} in {text}");
            parse(text.replace(from, to).as_bytes())
                .unwrap_err()
                .to_string()
        };
        let error = spoilt("\"accepted\"", "\"accept\"");
        assert!(error.starts_with("line 3: "), "{error}");
        let error = spoilt("\"pid\":2", "\"pid\":true");
        assert!(error.starts_with("line 6: "), "{error}");
        let error = spoilt("\"uid\"", "\"vid\"");
        assert!(
            error.starts_with("line 1: pod: unknown field `vid`"),
            "{error}"
        );
        let error = spoilt("{\"time\":2,\"supervisor\"", "\n{\"time\":2,\"supervisor\"");
        assert!(error.starts_with("line 2: "), "{error}");
        let error = spoilt("\"version\":1", "\"version\":2");
        assert!(
            error.ends_with("(use the runp that made the pod)"),
            "{error}"
        );
        let error = parse(b"{\"time\":1,\"pod\"").unwrap_err().to_string();
        assert!(error.starts_with("it has no first entry"), "{error}");
    }

    #[test]
    fn a_second_journal_of_the_same_pod_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        write_a_life(&path);
        let error = Journal::create(&path, &pod(), Time(1)).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST));
    }

    #[test]
    fn a_full_disk_is_named_and_leaves_the_journal_whole() {
        let error = Journal {
            file: appending().open("/dev/full").unwrap(),
            path: "/dev/full".into(),
            length: 0,
        }
        .append(Time(1), &Entry::Event(Event::Tick))
        .unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOSPC));
        assert!(
            error
                .to_string()
                .starts_with("append to journal /dev/full: ENOSPC"),
            "{error}"
        );
    }
}
