//! State, Pids, Wait, Stats, Connect: what there is to know.

use prost::Message;

use super::lifecycle::must_live;
use crate::container;
use crate::shim::pod::{Answer, Pod, Reply};
use crate::shim::process::{Caller, Process, State};
use crate::shim::proto::Any;
use crate::shim::proto::options::ProcessDetails;
use crate::shim::proto::task::{
    ConnectResponse, IdRequest, PidsResponse, ProcessInfo, ProcessRequest, StateResponse,
    StatsResponse, Status as TaskStatus,
};
use crate::shim::stats;
use crate::shim::ttrpc::Status;

impl Pod {
    pub(super) fn state(&mut self, request: ProcessRequest) -> Reply<StateResponse> {
        self.reap();
        let container = self.container(&request.id)?;
        let bundle = container.bundle.display().to_string();
        let status = match (request.exec_id.as_str(), container.init.status()) {
            // Also when somebody else has frozen it.
            ("", TaskStatus::Running) if container.is_paused() => Some(TaskStatus::Paused),
            _ => None,
        };
        let process = container.process(&request.exec_id)?;
        let ended = process.ended();
        let asked = &process.io.asked;
        Ok(StateResponse {
            id: request.id,
            bundle,
            pid: process.pid() as u32,
            status: status.unwrap_or_else(|| process.status()) as i32,
            stdin: asked.stdin.clone(),
            stdout: asked.stdout.clone(),
            stderr: asked.stderr.clone(),
            terminal: asked.terminal,
            exit_status: ended.map_or(0, |ended| ended.status),
            exited_at: ended.map(|ended| ended.at),
            exec_id: request.exec_id,
        })
    }

    pub(super) fn pids(&mut self, request: IdRequest) -> Reply<PidsResponse> {
        let container = self.container(&request.id)?;
        let mut pids = match container.init.state {
            // Made of a checkpoint, by Start.
            State::Added => Vec::new(),
            _ => container::processes(&container.store, &container.id)?,
        };
        // A containerd that starts again takes a task without processes for one that it was killed before it had made, and
        // removes it, and with it the exit code that it has not heard of (containerd issue 6860 is why).
        if let (State::Ended(ended), []) = (container.init.state, &pids[..]) {
            pids.push(ended.pid);
        }
        let exec_of = |pid: i32| {
            let mut execs = container.execs.iter();
            execs.find(|(_, exec)| exec.alive() == Some(pid))
        };
        let processes = pids.into_iter().map(|pid| ProcessInfo {
            pid: pid as u32,
            info: exec_of(pid).map(|(exec_id, _)| {
                let details = ProcessDetails {
                    exec_id: exec_id.clone(),
                };
                Any::of("containerd.runc.v1.ProcessDetails", &details)
            }),
        });
        Ok(PidsResponse {
            processes: processes.collect(),
        })
    }

    /// Answered when the process has ended.
    pub(super) fn wait(&mut self, payload: &[u8], caller: Caller) -> Option<Answer> {
        let request = match ProcessRequest::decode(payload) {
            Ok(request) => request,
            Err(e) => return Some(Err(Status::invalid(e.to_string()))),
        };
        let process = match self.container(&request.id) {
            Ok(container) => container.process(&request.exec_id),
            Err(e) => Err(e),
        };
        match process {
            Err(e) => Some(Err(e)),
            Ok(process) => match process.ended() {
                Some(ended) => Some(Ok(Process::wait_response(ended).encode_to_vec())),
                None => {
                    process.waiters.push(caller);
                    None
                }
            },
        }
    }

    pub(super) fn stats(&mut self, request: IdRequest) -> Reply<StatsResponse> {
        let container = self.container(&request.id)?;
        must_live(container)?;
        let stats = container::stats(&container.store, &container.id)?;
        Ok(StatsResponse {
            stats: Some(stats::metrics(&stats)),
        })
    }

    pub(super) fn connect(&mut self, request: IdRequest) -> Reply<ConnectResponse> {
        let sandbox = self
            .sandbox
            .as_ref()
            .and_then(|sandbox| sandbox.pid_of(&request.id));
        let task_pid = match (request.id.as_str(), sandbox) {
            ("", _) => 0,
            // A containerd that starts again asks so whether there is a shim.
            (_, Some(pid)) => pid as u32,
            (id, None) => self.container(id)?.init.pid() as u32,
        };
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }
}
