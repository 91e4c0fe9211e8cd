//! A supervisor in the background: `pod create`, `pod run --detach`.
//!
//! The supervisor is a child that leaves its caller's session, terminal and files behind. The caller waits until it is
//! told, over a socket, that the sandbox stands, or what went wrong.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_getfd};
use serde::{Deserialize, Serialize};

use super::lifecycle::Event;
use super::supervisor::{Seen, Supervisor, Watcher};
use crate::error::{Context, Error, Result};
use crate::sys::process;
use crate::sys::socket;

/// What the supervisor tells its caller.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// The sandbox stands.
    Ready,
    /// The pod is there, and something that it needs is not; it is tried again.
    Delayed(String),
    /// There is no pod.
    Failed(Error),
}

/// Where a supervisor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With a new pod, whose containers start at once.
    Start,
    /// With a new pod, whose containers start when somebody asks for it.
    Wait,
    /// Where another supervisor was killed.
    GoOn,
}

/// Makes a pod, or takes one over, with a supervisor in the background. What is returned is why
/// the pod is not ready yet, if it is not.
///
/// # Errors
/// When the pod could not be made; then nothing is left of it.
pub fn supervise<'a>(
    make: impl FnOnce() -> Result<Supervisor<'a>>,
    begin: Begin,
) -> Result<Option<String>> {
    let (ours, theirs) = socket::pair().context(|| "socketpair")?;
    let child = process::fork(|| {
        process::close_inherited(ours.as_fd());
        let made = leave().and_then(|()| make());
        match made {
            Ok(supervisor) => live(supervisor, begin, theirs),
            Err(error) => send(&theirs, &Report::Failed(error)),
        }
        process::exit(0)
    })
    .context(|| "fork the pod's supervisor")?;
    drop(child);
    let step = || "wait for the pod's supervisor";
    let message = socket::receive(&ours).context(step)?;
    let (message, _) = message.ok_or_else(|| Error::new(format!("{}: it died", step())))?;
    match serde_json::from_slice(&message) {
        Ok(Report::Ready) => Ok(None),
        Ok(Report::Delayed(why)) => Ok(Some(why)),
        Ok(Report::Failed(error)) => Err(error),
        Err(e) => Err(Error::new(format!("{}: {e}", step()))),
    }
}

fn live(supervisor: Supervisor<'_>, begin: Begin, caller: OwnedFd) {
    let mut caller = Some(caller);
    if begin == Begin::GoOn
        && let Some(caller) = caller.take()
    {
        send(&caller, &Report::Ready);
    }
    let watcher = Watcher {
        refresh: None,
        see: |seen: Seen<'_>| {
            let report = match seen {
                Seen::Event(Event::SandboxStarted { .. }, _) => Report::Ready,
                Seen::Event(
                    Event::VolumesFailed { message } | Event::SandboxFailed { message },
                    _,
                ) => Report::Delayed(message.clone()),
                _ => return,
            };
            if let Some(caller) = caller.take() {
                send(&caller, &report);
            }
        },
    };
    let lived = match begin {
        Begin::GoOn => supervisor.go_on(watcher),
        begin => supervisor.run(begin == Begin::Start, watcher),
    };
    if let Err(e) = lived {
        log::error!("{e}");
    }
}

fn send(caller: &OwnedFd, report: &Report) {
    if let Ok(message) = serde_json::to_vec(report) {
        let _ = socket::send(caller, &message, None);
    }
}

/// A session of its own, nothing of the caller's open, and no directory kept busy.
fn leave() -> Result<()> {
    rustix::process::setsid().context(|| "setsid")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .context(|| "dup2")?;
    for fd in open_files()? {
        let fd = process::inherited(fd);
        // What is ours is close-on-exec, and stays.
        if fd.as_raw_fd() > 2
            && fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
        {
            process::close_inherited(fd);
        }
    }
    rustix::process::chdir("/").context(|| "chdir /")
}

fn open_files() -> Result<Vec<i32>> {
    let path = "/proc/self/fd";
    let entries = std::fs::read_dir(path).context(|| format!("read {path}"))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}
