//! The Task service: containers and processes in them, `containerd.task.v2.Task` and `v3`, which differ in name only.
//!
//! A call is carried out at once, in this process, by the library; only Wait is answered later.

mod create;
mod exec;
mod lifecycle;
mod query;
mod streams;
mod update;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use prost::Message;
use rustix::event::PollFlags;

use super::process::{Caller, Process};
use super::proto::Empty;
use super::proto::task::ShutdownRequest;
use super::publisher::Publisher;
use super::ttrpc::{Code, Status};
use crate::cgroup::OomWatch;
use crate::state::{ContainerId, Store};

/// A call's result.
type Reply<T> = Result<T, Status>;

/// The same, encoded.
pub(super) type Answer = Reply<Vec<u8>>;

/// A container of the pod.
#[derive(Debug)]
struct Container {
    id: ContainerId,
    bundle: PathBuf,
    store: Store,
    init: Process,
    /// Others in it, by the id that containerd has given them.
    execs: BTreeMap<String, Process>,
    /// Who owns the fifos of all of them.
    io_owner: (u32, u32),
    /// Its processes do not end with the first one.
    shares_pids: bool,
    oom: Option<OomWatch>,
}

impl Container {
    /// The first process, or the exec of that id.
    fn process(&mut self, exec_id: &str) -> Reply<&mut Process> {
        match exec_id {
            "" => Ok(&mut self.init),
            exec => self.execs.get_mut(exec).ok_or_else(|| {
                Status::not_found(format!(
                    "process {exec:?} of container {:?}",
                    self.id.as_str()
                ))
            }),
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.init).chain(self.execs.values_mut())
    }
}

/// All containers of the pod.
#[derive(Debug)]
pub(super) struct Tasks {
    namespace: String,
    containers: BTreeMap<String, Container>,
    pub(super) events: Publisher,
    /// Of those who have waited.
    answers: Vec<(Caller, Answer)>,
    /// containerd has no use for this process any more.
    is_over: bool,
}

impl Tasks {
    pub(super) fn new(namespace: &str, events: Publisher) -> Self {
        Self {
            namespace: namespace.to_owned(),
            containers: BTreeMap::new(),
            events,
            answers: Vec::new(),
            is_over: false,
        }
    }

    /// Whether the shim is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Carries out a call. `None`: it is answered later.
    pub(super) fn call(&mut self, method: &str, payload: &[u8], caller: Caller) -> Option<Answer> {
        let answer = match method {
            "Create" => answer(payload, |request| self.create(request)),
            "Start" => answer(payload, |request| self.start(request)),
            "Delete" => answer(payload, |request| self.delete(request)),
            "Exec" => answer(payload, |request| self.exec(request)),
            "Kill" => answer(payload, |request| self.kill(request)),
            "Pause" => answer(payload, |request| self.pause(request)),
            "Resume" => answer(payload, |request| self.resume(request)),
            "State" => answer(payload, |request| self.state(request)),
            "Pids" => answer(payload, |request| self.pids(request)),
            "Update" => answer(payload, |request| self.update(request)),
            "Stats" => answer(payload, |request| self.stats(request)),
            "Connect" => answer(payload, |request| self.connect(request)),
            "ResizePty" => answer(payload, |request| self.resize_pty(request)),
            "CloseIO" => answer(payload, |request| self.close_io(request)),
            "Shutdown" => answer(payload, |request| self.shutdown(request)),
            "Wait" => return self.wait(payload, caller),
            other => Err(unimplemented("Task", other)),
        };
        Some(answer)
    }

    /// The answers to those who have waited.
    pub(super) fn take_answers(&mut self) -> Vec<(Caller, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Nobody waits any more on this connection.
    pub(super) fn forget(&mut self, connection: u32) {
        for container in self.containers.values_mut() {
            for process in container.processes() {
                process
                    .waiters
                    .retain(|caller| caller.connection != connection);
            }
        }
    }

    /// What to poll for.
    pub(super) fn poll_for<'a>(&'a self, files: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        files.extend(self.events.poll_for());
        for container in self.containers.values() {
            files.extend(container.oom.as_ref().map(OomWatch::poll_for));
            container.init.io.poll_for(files);
            for exec in container.execs.values() {
                exec.io.poll_for(files);
            }
        }
    }

    /// Something may have happened to what is polled for.
    pub(super) fn serve(&mut self) {
        self.events.serve();
        self.look_for_oom();
        for container in self.containers.values_mut() {
            for process in container.processes() {
                process.io.copy();
                if process.ended().is_some() {
                    process.io.settle();
                }
            }
        }
    }

    fn container(&mut self, id: &str) -> Reply<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| no_container(id))
    }

    fn shutdown(&mut self, _: ShutdownRequest) -> Reply<Empty> {
        // It comes after the deletion of every single one.
        self.is_over = self.containers.is_empty();
        Ok(Empty {})
    }
}

fn no_container(id: &str) -> Status {
    Status::not_found(format!("container {id:?} does not exist"))
}

/// Decodes, carries out, encodes.
pub(super) fn answer<Q: Message + Default, A: Message>(
    payload: &[u8],
    act: impl FnOnce(Q) -> Reply<A>,
) -> Answer {
    let request = Q::decode(payload).map_err(|e| Status::invalid(e.to_string()))?;
    act(request).map(|answer| answer.encode_to_vec())
}

pub(super) fn unimplemented(service: &str, method: &str) -> Status {
    Status::new(
        Code::Unimplemented,
        format!("{service}/{method} is not implemented"),
    )
}
