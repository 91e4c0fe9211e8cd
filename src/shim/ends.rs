//! What happens by itself: processes end, memory runs out.

use prost::Message;
use rustix::process::WaitOptions;

use super::pod::{Answer, Pod};
use super::process::{Caller, Ended, Process, State};
use super::proto::Timestamp;
use super::proto::events::{TaskExit, TaskOOM};
use super::publisher::Publisher;
use crate::container;

impl Pod {
    /// A process was killed with its container, and its end was not seen.
    pub(super) fn lose(&mut self, container: &str, id: &str, process: Process) {
        if let Some(pid) = process.alive() {
            tell(
                &mut self.events,
                &mut self.answers,
                container,
                id,
                Ended::killed(pid),
                process.waiters,
            );
        }
    }

    /// Waits for all children that have ended. Those that nobody knows were left behind by processes of the containers.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, signal) => 128 + signal.unwrap_or(libc::SIGKILL),
            };
            self.ended(pid.as_raw_nonzero().get(), exit as u32);
        }
    }

    fn ended(&mut self, pid: i32, status: u32) {
        let ended = Ended {
            pid,
            status,
            at: Timestamp::now(),
        };
        if self.sandbox_ended(ended) {
            return;
        }
        for (id, container) in &mut self.containers {
            if container.init.alive() == Some(pid) {
                container.init.state = State::Ended(ended);
                if container.shares_pids
                    && let Err(e) =
                        container::kill(&container.store, &container.id, libc::SIGKILL, true)
                {
                    log::error!("{e}");
                }
                let waiters = std::mem::take(&mut container.init.waiters);
                tell(&mut self.events, &mut self.answers, id, id, ended, waiters);
                container.init.io.ended();
                return;
            }
            let exec = container
                .execs
                .iter_mut()
                .find(|(_, exec)| exec.alive() == Some(pid));
            if let Some((exec_id, exec)) = exec {
                exec.state = State::Ended(ended);
                let waiters = std::mem::take(&mut exec.waiters);
                tell(
                    &mut self.events,
                    &mut self.answers,
                    id,
                    exec_id,
                    ended,
                    waiters,
                );
                exec.io.ended();
                return;
            }
        }
    }

    pub(super) fn look_for_oom(&mut self) {
        for (id, container) in &mut self.containers {
            let Some(oom) = &mut container.oom else {
                continue;
            };
            let (happened, gone) = oom.look();
            if happened {
                self.events.publish(&TaskOOM {
                    container_id: id.clone(),
                });
            }
            if gone {
                container.oom = None;
            }
        }
    }
}

/// Tells of the end of a process: everybody, and those who have waited for it.
fn tell(
    events: &mut Publisher,
    answers: &mut Vec<(Caller, Answer)>,
    container: &str,
    id: &str,
    ended: Ended,
    waiters: Vec<Caller>,
) {
    events.publish(&TaskExit {
        container_id: container.to_owned(),
        id: id.to_owned(),
        pid: ended.pid as u32,
        exit_status: ended.status,
        exited_at: Some(ended.at),
    });
    let response = Process::wait_response(ended).encode_to_vec();
    answers.extend(
        waiters
            .into_iter()
            .map(|caller| (caller, Ok(response.clone()))),
    );
}
