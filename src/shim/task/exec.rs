//! Exec: another process in a container, added first and started later.

use super::lifecycle::{must_live, not_startable};
use crate::container;
use crate::error::Error;
use crate::shim::io::{Asked, Owner};
use crate::shim::pod::{Pod, Reply};
use crate::shim::process::{Process, State};
use crate::shim::proto::Empty;
use crate::shim::proto::events::TaskExecAdded;
use crate::shim::proto::task::ExecRequest;
use crate::shim::ttrpc::{Code, Status};
use crate::spec::{load, plan_process};

impl Pod {
    pub(super) fn exec(&mut self, request: ExecRequest) -> Reply<Empty> {
        let container = self.container(&request.id)?;
        must_live(container)?;
        if request.exec_id.is_empty() {
            return Err(Status::invalid("exec_id: required"));
        }
        if container.execs.contains_key(&request.exec_id) {
            let why = format!("process {:?} exists", request.exec_id);
            return Err(Status::new(Code::AlreadyExists, why));
        }
        let spec = request
            .spec
            .ok_or_else(|| Status::invalid("spec: required"))?;
        if !spec.name().ends_with("Process") {
            return Err(Status::invalid(format!("spec of type {:?}", spec.name())));
        }
        let bad = |e: Error| Status::invalid(e.to_string());
        let process = load::parse_process(&spec.value, "spec").map_err(bad)?;
        let mut errors = Vec::new();
        let plan = plan_process(&process, "spec", &mut errors);
        Error::all("exec", errors).map_err(bad)?;
        if plan.terminal != request.terminal {
            return Err(Status::invalid(format!(
                "spec: terminal is {}, and the request says {}",
                plan.terminal, request.terminal
            )));
        }
        let mut exec = Process::new(Asked {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        });
        exec.plan = Some(Box::new(plan));
        container.execs.insert(request.exec_id.clone(), exec);
        self.events.publish(&TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
        });
        Ok(Empty {})
    }

    /// Runs its program. One that cannot be run has ended.
    pub(super) fn start_exec(&mut self, id: &str, exec_id: &str) -> Reply<u32> {
        let namespace = self.namespace.clone();
        let container = self.container(id)?;
        let (store, root) = (container.store.clone(), container.options.io_owner);
        let container_id = container.id.clone();
        must_live(container)?;
        let is_paused = container.is_paused();
        let exec = container.process(exec_id)?;
        if is_paused {
            return Err(Status::precondition("the container is paused"));
        }
        let Some(plan) = exec.plan.take() else {
            return Err(not_startable(exec));
        };
        let owner = Owner {
            namespace: &namespace,
            id: exec_id,
            root,
        };
        let started = exec.io.open(owner).and_then(|stdio| {
            let request = container::ExecRequest {
                id: &container_id,
                process: &plan,
                stdio,
                ignore_paused: false,
                files: 0,
                cgroup: None,
            };
            container::exec(&store, &request)
        });
        let created = started.and_then(|created| match exec.io.attach(created.console) {
            Ok(()) => Ok(created.pid),
            Err(e) => Err(container::end(&created.pidfd, e)),
        });
        match created {
            Ok(pid) => {
                exec.state = State::Running(pid);
                Ok(pid as u32)
            }
            Err(e) => {
                exec.io.ended();
                let answers = exec.never_ran();
                self.answers.extend(answers);
                let why = format!("OCI runtime exec failed: {e}");
                Err(Status::new(Code::Unknown, why))
            }
        }
    }
}
