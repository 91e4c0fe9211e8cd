//! A process that containerd knows: a container's first one, or an exec.

use prost::Message;

use super::io::{Asked, Io};
use super::pod::Answer;
use super::proto::Timestamp;
use super::proto::task::{Status, WaitResponse};
use crate::spec::plan;

/// Who asked: a connection, and the stream on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) connection: u32,
    pub(super) stream: u32,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    /// There is none yet: an exec that was not started.
    Added,
    /// It waits for Start.
    Created(i32),
    Running(i32),
    Ended(Ended),
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ended {
    /// 0 if there never was one.
    pub(super) pid: i32,
    pub(super) status: u32,
    pub(super) at: Timestamp,
}

impl Ended {
    /// A program that could not be executed.
    pub(super) fn never_ran() -> Self {
        Self {
            pid: 0,
            status: 255,
            at: Timestamp::now(),
        }
    }

    /// Without anybody having seen it: as one that was killed, now.
    pub(super) fn killed(pid: i32) -> Self {
        Self {
            pid,
            status: 128 + libc::SIGKILL as u32,
            at: Timestamp::now(),
        }
    }
}

/// A process, and who waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) state: State,
    pub(super) io: Io,
    pub(super) waiters: Vec<Caller>,
    /// What an exec will run, until it is started.
    pub(super) plan: Option<Box<plan::Process>>,
}

impl Process {
    pub(super) fn new(asked: Asked) -> Self {
        Self {
            state: State::Added,
            io: Io::new(asked),
            waiters: Vec::new(),
            plan: None,
        }
    }

    /// Its pid, as long as it was not waited for.
    pub(super) fn alive(&self) -> Option<i32> {
        match self.state {
            State::Created(pid) | State::Running(pid) => Some(pid),
            State::Added | State::Ended(_) => None,
        }
    }

    /// Its pid, also of one that has ended; 0 if there never was one.
    pub(super) fn pid(&self) -> i32 {
        match self.state {
            State::Created(pid) | State::Running(pid) => pid,
            State::Ended(ended) => ended.pid,
            State::Added => 0,
        }
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        match self.state {
            State::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// As containerd calls it; of one that runs nobody knows here whether it is paused.
    pub(super) fn status(&self) -> Status {
        match self.state {
            State::Added | State::Created(_) => Status::Created,
            State::Running(_) => Status::Running,
            State::Ended(_) => Status::Stopped,
        }
    }

    /// It could not be started. What those are told who wait for its end: containerd asks before it starts anything.
    pub(super) fn never_ran(&mut self) -> Vec<(Caller, Answer)> {
        let ended = Ended::never_ran();
        self.state = State::Ended(ended);
        let response = Self::wait_response(ended).encode_to_vec();
        let waiters = std::mem::take(&mut self.waiters).into_iter();
        waiters
            .map(|caller| (caller, Ok(response.clone())))
            .collect()
    }

    /// What those get who wait for it.
    pub(super) fn wait_response(ended: Ended) -> WaitResponse {
        WaitResponse {
            exit_status: ended.status,
            exited_at: Some(ended.at),
        }
    }
}
