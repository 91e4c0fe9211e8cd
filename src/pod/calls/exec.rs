//! A program in the container.
//!
//! A process of its own starts it, waits for it and tells how it ended: starting it means to wait for processes that run
//! within the container's limits, and the supervisor has other things to do.
//!
//! ```text
//! supervisor            helper                       program
//!   |---- fork ---------->|---- container::exec ------->|
//!   |<--- pidfd ----------|                             |
//!   |<--- Report ---------|<--- waits for its end ------|
//! ```

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::{Outcome, Place, keep, read};
use crate::container::{self, ExecRequest, Stdio};
use crate::error::{Context, Error, Result};
use crate::pod::lifecycle::Exit;
use crate::spec::plan_process;
use crate::sys::process::{self, Child};
use crate::sys::socket;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Exec {
    command: Vec<String>,
    helper: Child,
    channel: OwnedFd,
    /// Known as soon as it was executed.
    program: Option<OwnedFd>,
    output: Option<OwnedFd>,
    said: Vec<u8>,
}

/// What the helper tells at last.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Ended(Exit),
    Failed(Error),
}

impl Exec {
    pub(super) fn begin(
        command: &[String],
        place: Place<'_>,
    ) -> std::result::Result<Self, Outcome> {
        Ok(Self::fork(command, place)?)
    }

    fn fork(command: &[String], place: Place<'_>) -> Result<Self> {
        let (ours, theirs) = socket::pair().context(|| "socketpair")?;
        let (output, write) = pipe_with(PipeFlags::CLOEXEC).context(|| "pipe")?;
        fcntl_getfl(&output)
            .and_then(|flags| fcntl_setfl(&output, flags | OFlags::NONBLOCK))
            .context(|| "make a pipe non-blocking")?;
        let helper = process::fork(|| help(command, place, &theirs, write.as_fd()))
            .context(|| "fork for a program in the container")?;
        Ok(Self {
            command: command.to_owned(),
            helper,
            channel: ours,
            program: None,
            output: Some(output),
            said: Vec::new(),
        })
    }

    pub(super) fn waits_for(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let output = self.output.iter().map(AsFd::as_fd);
        let files = output.chain([self.channel.as_fd()]);
        files.map(|fd| (fd, PollFlags::IN)).collect()
    }

    pub(super) fn go_on(&mut self) -> Option<Outcome> {
        self.read_output();
        match rustix::event::poll(
            &mut [rustix::event::PollFd::new(&self.channel, PollFlags::IN)],
            Some(&rustix::event::Timespec::default()),
        ) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        match socket::receive(&self.channel) {
            Ok(Some((_, Some(program)))) => {
                self.program = Some(program);
                None
            }
            Ok(Some((message, None))) => {
                self.read_output();
                Some(self.judge(&message))
            }
            Ok(None) | Err(_) => Some(Outcome::Unknown(format!(
                "who ran {:?} died",
                self.command.join(" ")
            ))),
        }
    }

    fn read_output(&mut self) {
        let Some(output) = &self.output else { return };
        let (bytes, end) = read(output).unwrap_or((Vec::new(), true));
        keep(&mut self.said, &bytes);
        if end {
            self.output = None;
        }
    }

    fn judge(&self, message: &[u8]) -> Outcome {
        let said = || String::from_utf8_lossy(&self.said).trim_end().to_owned();
        match serde_json::from_slice(message) {
            Ok(Report::Ended(Exit::Code(0))) => Outcome::Success,
            Ok(Report::Ended(exit)) => Outcome::Failure(match said() {
                said if said.is_empty() => {
                    let command = self.command.join(" ");
                    format!("command {command:?} exited with {}", exit.code())
                }
                said => said,
            }),
            Ok(Report::Failed(error)) => Outcome::Unknown(error.to_string()),
            Err(e) => Outcome::Unknown(e.to_string()),
        }
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> String {
        let command = self.command.join(" ");
        let seconds = timeout.as_secs();
        format!("command timed out: {command:?} timed out after {seconds}s")
    }
}

/// What is not over is given up.
impl Drop for Exec {
    fn drop(&mut self) {
        let program = self.program.iter();
        for pidfd in program.chain([&self.helper.pidfd]) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL); // it has ended
        }
        let _ = process::wait(&self.helper.pidfd);
    }
}

/// The helper's life.
fn help(
    command: &[String],
    place: Place<'_>,
    channel: &OwnedFd,
    output: BorrowedFd<'_>,
) -> Infallible {
    // Who kills the supervisor wants nobody to go on in its place.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let report = match run(command, place, channel, output) {
        Ok(exit) => Report::Ended(exit),
        Err(error) => Report::Failed(error),
    };
    if let Ok(message) = serde_json::to_vec(&report) {
        let _ = socket::send(channel, &message, None); // nobody is there to be told
    }
    process::exit(0)
}

fn run(
    command: &[String],
    place: Place<'_>,
    channel: &OwnedFd,
    output: BorrowedFd<'_>,
) -> Result<Exit> {
    let mut process = place.store.look(place.id)?.record()?.process;
    process.set_args(Some(command.to_owned()));
    process.set_terminal(Some(false));
    process.set_console_size(None);
    let mut errors = Vec::new();
    let planned = plan_process(&process, "process", &mut errors);
    Error::all("plan the program", errors)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let stdin = rustix::fs::open("/dev/null", flags, Mode::empty()).context(|| "open /dev/null")?;
    let duplicate = || output.try_clone_to_owned().context(|| "dup");
    let request = ExecRequest {
        id: place.id,
        process: &planned,
        stdio: Stdio::Files([stdin, duplicate()?, duplicate()?]),
        ignore_paused: false,
        files: 0,
        cgroup: None,
    };
    let program = container::exec(place.store, &request)?.pidfd;
    drop(request);
    socket::send(channel, b"started", Some(program.as_fd())).context(|| "tell the supervisor")?;
    process::wait(&program).context(|| "wait for the program")
}
