//! The Task service: containers and processes in them, `containerd.task.v2.Task` and `v3`, which differ in name only.
//!
//! A call is carried out at once, in this process, by the library; only Wait is answered later.

mod checkpoint;
mod create;
mod exec;
mod lifecycle;
mod query;
mod streams;
mod update;

use super::pod::{Answer, Pod, Reply, answer, unimplemented};
use super::process::Caller;
use super::proto::Empty;
use super::proto::task::ShutdownRequest;

impl Pod {
    /// Carries out a call. `None`: it is answered later.
    pub(super) fn call_task(
        &mut self,
        method: &str,
        payload: &[u8],
        caller: Caller,
    ) -> Option<Answer> {
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
            "Checkpoint" => answer(payload, |request| self.checkpoint(request)),
            "ResizePty" => answer(payload, |request| self.resize_pty(request)),
            "CloseIO" => answer(payload, |request| self.close_io(request)),
            "Shutdown" => answer(payload, |request| self.shutdown(request)),
            "Wait" => return self.wait(payload, caller),
            other => Err(unimplemented("Task", other)),
        };
        Some(answer)
    }

    fn shutdown(&mut self, _: ShutdownRequest) -> Reply<Empty> {
        // It comes after the deletion of every single one.
        self.is_over = self.containers.is_empty() && self.sandbox.is_none();
        Ok(Empty {})
    }
}
