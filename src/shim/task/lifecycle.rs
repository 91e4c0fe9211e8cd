//! Start, Kill, Pause, Resume, Delete, and what happens by itself: processes end, memory runs out.

use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::container;
use crate::shim::pod::{Container, Pod, Reply, no_container};
use crate::shim::process::{Ended, Process, State};
use crate::shim::proto::Empty;
use crate::shim::proto::events::{TaskDelete, TaskExecStarted, TaskPaused, TaskResumed, TaskStart};
use crate::shim::proto::task::{
    DeleteResponse, IdRequest, KillRequest, PidResponse, ProcessRequest,
};
use crate::shim::rootfs;
use crate::shim::ttrpc::Status;
use crate::sys::process;

impl Pod {
    pub(super) fn start(&mut self, request: ProcessRequest) -> Reply<PidResponse> {
        let ProcessRequest { id, exec_id } = request;
        if !exec_id.is_empty() {
            let pid = self.start_exec(&id, &exec_id)?;
            self.events.publish(&TaskExecStarted {
                container_id: id,
                exec_id,
                pid,
            });
            return Ok(PidResponse { pid });
        }
        let container = self.container(&id)?;
        let pid = match container.init.state {
            State::Created(pid) => {
                container::start(&container.store, &container.id)?;
                container.init.state = State::Running(pid);
                pid
            }
            State::Added => self.restore(&id)?,
            State::Running(_) | State::Ended(_) => return Err(not_startable(&container.init)),
        } as u32;
        self.events.publish(&TaskStart {
            container_id: id,
            pid,
        });
        Ok(PidResponse { pid })
    }

    pub(super) fn kill(&mut self, request: KillRequest) -> Reply<Empty> {
        let container = self.container(&request.id)?;
        let signal = i32::try_from(request.signal)
            .ok()
            .filter(|signal| (0..=64).contains(signal))
            .ok_or_else(|| Status::invalid(format!("signal {}", request.signal)))?;
        let process = container.process(&request.exec_id)?;
        let finished = || Status::not_found("process already finished");
        let Some(pid) = process.alive() else {
            return Err(match process.state {
                State::Added => Status::precondition("process was not started"),
                _ => finished(),
            });
        };
        if request.exec_id.is_empty() {
            let killed = container::kill(&container.store, &container.id, signal, request.all);
            // It may have ended, and nobody has looked yet.
            return killed.map(|()| Empty {}).map_err(|e| match has_ended(pid) {
                true => finished(),
                false => e.into(),
            });
        }
        // A child that was not waited for: its pid is its own.
        let pid = Pid::from_raw(pid).ok_or_else(finished)?;
        let sent = match process::signal(signal) {
            None => Ok(()),
            Some(signal) => rustix::process::kill_process(pid, signal),
        };
        match sent {
            Ok(()) => Ok(Empty {}),
            Err(rustix::io::Errno::SRCH) => Err(finished()),
            Err(e) => Err(crate::error::Error::sys(format!("kill {pid:?}"), e).into()),
        }
    }

    pub(super) fn pause(&mut self, request: IdRequest) -> Reply<Empty> {
        let container = self.container(&request.id)?;
        must_run(container)?;
        if container.is_paused() {
            return Err(Status::precondition("it is paused already"));
        }
        container::pause(&container.store, &container.id)?;
        self.events.publish(&TaskPaused {
            container_id: request.id,
        });
        Ok(Empty {})
    }

    pub(super) fn resume(&mut self, request: IdRequest) -> Reply<Empty> {
        let container = self.container(&request.id)?;
        must_run(container)?;
        if !container.is_paused() {
            return Err(Status::precondition("it is not paused"));
        }
        container::resume(&container.store, &container.id)?;
        self.events.publish(&TaskResumed {
            container_id: request.id,
        });
        Ok(Empty {})
    }

    pub(super) fn delete(&mut self, request: ProcessRequest) -> Reply<DeleteResponse> {
        // One that has just ended is one that has ended.
        self.reap();
        let ProcessRequest { id, exec_id } = request;
        let container = self.container(&id)?;
        let process = container.process(&exec_id)?;
        if let State::Running(_) = process.state {
            return Err(Status::precondition("cannot delete a running process"));
        }
        let pid = process.pid();
        let ended = match exec_id.as_str() {
            "" => self.delete_container(&id)?,
            exec => container
                .execs
                .remove(exec)
                .and_then(|process| process.ended())
                .unwrap_or_else(|| Ended::killed(pid)),
        };
        self.events.publish(&TaskDelete {
            container_id: id,
            pid: ended.pid as u32,
            exit_status: ended.status,
            exited_at: Some(ended.at),
            id: exec_id,
        });
        Ok(DeleteResponse {
            pid: ended.pid as u32,
            exit_status: ended.status,
            exited_at: Some(ended.at),
        })
    }

    /// Removes a container with everything in it, and tells those who still wait for that.
    fn delete_container(&mut self, id: &str) -> Reply<Ended> {
        let container = self
            .containers
            .get_mut(id)
            .ok_or_else(|| no_container(id))?;
        container::delete(&container.store, &container.id, true)?;
        rootfs::unmount_at(&container.bundle.join("rootfs"));
        self.reap();
        let Some(container) = self.containers.remove(id) else {
            return Err(no_container(id));
        };
        for (exec_id, exec) in container.execs {
            self.lose(id, &exec_id, exec);
        }
        let init = container.init;
        let ended = init.ended().unwrap_or_else(|| Ended::killed(init.pid()));
        self.lose(id, id, init);
        Ok(ended)
    }
}

/// Whether a child has ended and was not waited for.
fn has_ended(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let looked = Pid::from_raw(pid).map(|pid| rustix::process::waitid(WaitId::Pid(pid), options));
    matches!(looked, Some(Ok(Some(_))))
}

pub(super) fn must_run(container: &Container) -> Reply<()> {
    match container.init.state {
        State::Running(_) => Ok(()),
        _ => Err(Status::precondition(format!(
            "container {:?} does not run",
            container.id.as_str()
        ))),
    }
}

/// It is created or runs.
pub(super) fn must_live(container: &Container) -> Reply<()> {
    let why = match container.init.state {
        State::Created(_) | State::Running(_) => return Ok(()),
        State::Added => "was not started",
        State::Ended(_) => "has ended",
    };
    let id = container.id.as_str();
    Err(Status::precondition(format!("container {id:?} {why}")))
}

pub(super) fn not_startable(process: &Process) -> Status {
    Status::precondition(match process.state {
        State::Running(_) => "cannot start a running process",
        _ => "cannot start a process that has ended",
    })
}
