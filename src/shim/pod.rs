//! The pod that the shim is for: its sandbox and its containers.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use oci_spec::runtime::Spec;
use prost::Message;
use rustix::event::PollFlags;

use super::options::Options;
use super::process::{Caller, Process};
use super::publisher::Publisher;
use super::sandbox::Sandbox;
use super::ttrpc::{Code, Request, Status};
use crate::cgroup::OomWatch;
use crate::container;
use crate::state::{self, ContainerId, Store};

/// A call's result.
pub(super) type Reply<T> = Result<T, Status>;

/// The same, encoded.
pub(super) type Answer = Reply<Vec<u8>>;

/// What a container is made of that goes on where a checkpoint found it.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The directory of criu's images.
    pub(super) images: PathBuf,
    pub(super) spec: Spec,
    /// A mount that is its root.
    pub(super) root: Option<OwnedFd>,
}

/// A container of the pod.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) bundle: PathBuf,
    pub(super) store: Store,
    pub(super) init: Process,
    /// Others in it, by the id that containerd has given them.
    pub(super) execs: BTreeMap<String, Process>,
    pub(super) options: Options,
    /// What it is made of when it is started, if that is a checkpoint.
    pub(super) checkpoint: Option<Box<Checkpoint>>,
    /// Its processes do not end with the first one.
    pub(super) shares_pids: bool,
    pub(super) oom: Option<OomWatch>,
}

impl Container {
    /// The first process, or the exec of that id.
    pub(super) fn process(&mut self, exec_id: &str) -> Reply<&mut Process> {
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

    /// Also when somebody else has frozen it.
    pub(super) fn is_paused(&self) -> bool {
        let known = container::state(&self.store, &self.id);
        known.is_ok_and(|state| state.status == state::Status::Paused)
    }

    pub(super) fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.init).chain(self.execs.values_mut())
    }
}

/// The pod.
#[derive(Debug)]
pub(super) struct Pod {
    /// containerd's.
    pub(super) namespace: String,
    /// Of the shim itself.
    pub(super) options: Options,
    /// If containerd has asked for one; otherwise it is a container like the others.
    pub(super) sandbox: Option<Sandbox>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) events: Publisher,
    /// Of those who have waited.
    pub(super) answers: Vec<(Caller, Answer)>,
    /// containerd has no use for this process any more.
    pub(super) is_over: bool,
}

impl Pod {
    pub(super) fn new(namespace: &str, options: Options, events: Publisher) -> Self {
        Self {
            namespace: namespace.to_owned(),
            options,
            sandbox: None,
            containers: BTreeMap::new(),
            events,
            answers: Vec::new(),
            is_over: false,
        }
    }

    /// Carries out a call. `None`: it is answered later.
    pub(super) fn call(&mut self, request: &Request, caller: Caller) -> Option<Answer> {
        let Request {
            service,
            method,
            payload,
        } = request;
        match service.as_str() {
            "containerd.task.v2.Task" | "containerd.task.v3.Task" => {
                self.call_task(method, payload, caller)
            }
            "containerd.runtime.sandbox.v1.Sandbox" => self.call_sandbox(method, payload, caller),
            other => Some(Err(unimplemented(other, method))),
        }
    }

    /// The answers to those who have waited.
    pub(super) fn take_answers(&mut self) -> Vec<(Caller, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Nobody waits any more on this connection.
    pub(super) fn forget(&mut self, connection: u32) {
        if let Some(sandbox) = &mut self.sandbox {
            sandbox
                .waiters
                .retain(|caller| caller.connection != connection);
        }
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

    /// When to call [`Self::serve`] again, whatever happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let processes = self
            .containers
            .values()
            .flat_map(|container| std::iter::once(&container.init).chain(container.execs.values()));
        let late = processes.filter_map(|process| process.io.deadline());
        late.chain(self.events.deadline()).min()
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

    pub(super) fn container(&mut self, id: &str) -> Reply<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| no_container(id))
    }
}

pub(super) fn no_container(id: &str) -> Status {
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
