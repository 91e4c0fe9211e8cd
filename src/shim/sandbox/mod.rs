//! The Sandbox service, `containerd.runtime.sandbox.v1.Sandbox`: with `sandboxer = "shim"` the pod's sandbox is our own pause
//! process instead of a container with an image.
//!
//! containerd makes the network namespace, takes the others from `/proc/PID/ns` of the pid that StartSandbox returns, and then
//! asks for containers by the Task service of the same shim.

mod files;
mod namespaces;
mod plan;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Spec;
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};

use super::pod::{Answer, Pod, Reply, answer, unimplemented};
use super::process::{Caller, Ended, Process};
use super::proto::cri::PodSandboxConfig;
use super::proto::sandbox::{
    CreateRequest, IdRequest, Metric, MetricsResponse, Platform, PlatformResponse, StartResponse,
    StatusResponse,
};
use super::proto::{Empty, Timestamp};
use super::stats;
use super::ttrpc::{Code, Status};
use crate::cgroup::Layout;
use crate::container;
use crate::error::{Error, Result};
use crate::state::ContainerId;

use files::Files;
use plan::Plan;
pub(super) use record::remove;

/// The pod's sandbox.
#[derive(Debug)]
pub(super) struct Sandbox {
    id: ContainerId,
    bundle: PathBuf,
    plan: Plan,
    files: Files,
    state: State,
    /// Who waits for its end.
    pub(super) waiters: Vec<Caller>,
    /// Who has asked for its end, and whether that is to be the shim's.
    enders: Vec<(Caller, bool)>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Created,
    Ready {
        pid: i32,
        since: Timestamp,
    },
    Ended {
        ended: Ended,
        since: Option<Timestamp>,
    },
}

impl Sandbox {
    /// Adds what all containers of the pod have in common to a container's configuration. What it returns are mounts that are
    /// made already, by index.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn complete(&self, spec: &mut Spec) -> Result<BTreeMap<usize, OwnedFd>> {
        self.files.complete(spec, self.is_ready())
    }

    /// Pause's, if this is its id; 0 if there is none.
    pub(super) fn pid_of(&self, id: &str) -> Option<i32> {
        (self.id.as_str() == id).then(|| self.is_ready().unwrap_or(0))
    }

    fn is_ready(&self) -> Option<i32> {
        match self.state {
            State::Ready { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

impl Pod {
    /// Carries out a call. `None`: it is answered later.
    pub(super) fn call_sandbox(
        &mut self,
        method: &str,
        payload: &[u8],
        caller: Caller,
    ) -> Option<Answer> {
        let answer = match method {
            "CreateSandbox" => answer(payload, |request| self.create_sandbox(request)),
            "StartSandbox" => answer(payload, |request| self.start_sandbox(request)),
            "Platform" => answer(payload, |request| self.platform(request)),
            "SandboxStatus" => answer(payload, |request| self.sandbox_status(request)),
            "PingSandbox" => answer(payload, |request| self.ping_sandbox(request)),
            "SandboxMetrics" => answer(payload, |request| self.sandbox_metrics(request)),
            "WaitSandbox" => return self.wait_sandbox(payload, caller),
            "StopSandbox" => return self.end_sandbox(payload, caller, false),
            "ShutdownSandbox" => return self.end_sandbox(payload, caller, true),
            other => Err(unimplemented("Sandbox", other)),
        };
        Some(answer)
    }

    fn sandbox(&mut self, id: &str) -> Reply<&mut Sandbox> {
        self.sandbox
            .as_mut()
            .filter(|sandbox| sandbox.id.as_str() == id)
            .ok_or_else(|| Status::not_found(format!("sandbox {id:?} does not exist")))
    }

    fn create_sandbox(&mut self, request: CreateRequest) -> Reply<Empty> {
        if let Some(sandbox) = &self.sandbox {
            let why = format!("sandbox {:?} exists", sandbox.id.as_str());
            return Err(Status::new(Code::AlreadyExists, why));
        }
        let bad = |e: Error| Status::invalid(e.to_string());
        let id: ContainerId = request.sandbox_id.parse().map_err(bad)?;
        if !request.bundle_path.starts_with('/') {
            let why = format!(
                "bundle_path {:?}: not an absolute path",
                request.bundle_path
            );
            return Err(Status::invalid(why));
        }
        if !request.rootfs.is_empty() {
            return Err(Status::invalid("rootfs: the sandbox has none"));
        }
        let config = match request.options.filter(|any| !any.type_url.is_empty()) {
            None => PodSandboxConfig::default(),
            Some(any) if any.name() == "runtime.v1.PodSandboxConfig" => {
                PodSandboxConfig::decode(&*any.value)
                    .map_err(|e| Status::invalid(format!("options: {e}")))?
            }
            Some(any) => {
                return Err(Status::invalid(format!("options of type {:?}", any.name())));
            }
        };
        let machine = rustix::system::uname();
        let hostname = machine.nodename().to_string_lossy();
        let systemd = self.options.systemd_cgroup;
        let plan = Plan::new(&id, &config, &request.netns_path, systemd, &hostname).map_err(bad)?;
        let bundle = PathBuf::from(request.bundle_path);
        let files = Files::make(&bundle, &plan)?;
        self.sandbox = Some(Sandbox {
            id,
            bundle,
            plan,
            files,
            state: State::Created,
            waiters: Vec::new(),
            enders: Vec::new(),
        });
        Ok(Empty {})
    }

    fn start_sandbox(&mut self, request: IdRequest) -> Reply<StartResponse> {
        let sandbox = self.sandbox(&request.sandbox_id)?;
        match sandbox.state {
            State::Created => {}
            State::Ready { .. } => return Err(Status::precondition("the sandbox runs already")),
            State::Ended { .. } => return Err(Status::precondition("the sandbox has ended")),
        }
        let pid = record::start(&sandbox.bundle, &sandbox.id, &mut sandbox.plan)?;
        let since = Timestamp::now();
        sandbox.state = State::Ready { pid, since };
        Ok(StartResponse {
            pid: pid as u32,
            created_at: Some(since),
        })
    }

    fn platform(&mut self, request: IdRequest) -> Reply<PlatformResponse> {
        self.sandbox(&request.sandbox_id)?;
        // Go's names.
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(PlatformResponse {
            platform: Some(Platform {
                os: "linux".into(),
                architecture: architecture.into(),
            }),
        })
    }

    fn sandbox_status(&mut self, request: IdRequest) -> Reply<StatusResponse> {
        self.reap();
        let sandbox = self.sandbox(&request.sandbox_id)?;
        let (pid, created_at, exited_at) = match sandbox.state {
            State::Created => (0, None, None),
            State::Ready { pid, since } => (pid, Some(since), None),
            State::Ended { ended, since } => (ended.pid, since, Some(ended.at)),
        };
        // CRI's words.
        let state = match sandbox.is_ready() {
            Some(_) => "SANDBOX_READY",
            None => "SANDBOX_NOTREADY",
        };
        Ok(StatusResponse {
            sandbox_id: request.sandbox_id,
            pid: pid as u32,
            state: state.into(),
            info: HashMap::new(),
            created_at,
            exited_at,
        })
    }

    fn ping_sandbox(&mut self, request: IdRequest) -> Reply<Empty> {
        self.sandbox(&request.sandbox_id)?;
        Ok(Empty {})
    }

    /// What the whole pod uses, where it has a cgroup.
    fn sandbox_metrics(&mut self, request: IdRequest) -> Reply<MetricsResponse> {
        let sandbox = self.sandbox(&request.sandbox_id)?;
        if sandbox.is_ready().is_none() {
            return Err(Status::precondition("the sandbox does not run"));
        }
        let own = &sandbox.plan.cgroup.path;
        let path = match (sandbox.plan.cgroup_parent.as_str(), own.parent()) {
            ("", _) | (_, None) => own,
            (_, Some(parent)) => parent,
        };
        let cgroup = Layout::detect().and_then(|layout| layout.open(path));
        let stats = cgroup.and_then(|cgroup| cgroup.stats())?;
        Ok(MetricsResponse {
            metrics: Some(Metric {
                timestamp: Some(Timestamp::now()),
                id: request.sandbox_id,
                data: Some(stats::metrics(&stats)),
            }),
        })
    }

    /// Answered when the sandbox has ended.
    fn wait_sandbox(&mut self, payload: &[u8], caller: Caller) -> Option<Answer> {
        let found = IdRequest::decode(payload)
            .map_err(|e| Status::invalid(e.to_string()))
            .and_then(|request| self.sandbox(&request.sandbox_id));
        match found {
            Err(e) => Some(Err(e)),
            Ok(sandbox) => match sandbox.state {
                State::Ended { ended, .. } => {
                    Some(Ok(Process::wait_response(ended).encode_to_vec()))
                }
                _ => {
                    sandbox.waiters.push(caller);
                    None
                }
            },
        }
    }

    /// StopSandbox, and with `forever` ShutdownSandbox: ends pause and all containers. Answered when pause has ended.
    fn end_sandbox(&mut self, payload: &[u8], caller: Caller, forever: bool) -> Option<Answer> {
        let request = match IdRequest::decode(payload) {
            Ok(request) => request,
            Err(e) => return Some(Err(Status::invalid(e.to_string()))),
        };
        if self.sandbox.is_none() {
            // What is not there is stopped, and shut down.
            self.is_over |= forever && self.containers.is_empty();
            return Some(Ok(Vec::new()));
        }
        if let Err(e) = self.sandbox(&request.sandbox_id) {
            return Some(Err(e));
        }
        self.kill_containers(forever);
        self.reap();
        self.never_started();
        let Some(sandbox) = &mut self.sandbox else {
            return Some(Ok(Vec::new()));
        };
        let Some(pid) = sandbox.is_ready() else {
            self.is_over |= forever;
            return Some(Ok(Vec::new()));
        };
        if let Some(pid) = Pid::from_raw(pid) {
            // A child that was not waited for.
            let _ = kill_process(pid, Signal::KILL);
        }
        sandbox.enders.push((caller, forever));
        None
    }

    /// containerd stops containers first. Those that it has forgotten end with the sandbox.
    fn kill_containers(&mut self, forever: bool) {
        for container in self.containers.values() {
            let ended = match (forever, container.init.alive()) {
                (true, _) => container::delete(&container.store, &container.id, true),
                (false, None) => Ok(()),
                (false, Some(_)) => {
                    container::kill(&container.store, &container.id, libc::SIGKILL, true)
                }
            };
            if let Err(e) = ended {
                log::error!("{e}");
            }
        }
    }

    /// A sandbox that is stopped before it was started has ended, too.
    fn never_started(&mut self) {
        if let Some(sandbox) = &mut self.sandbox
            && let State::Created = sandbox.state
        {
            let ended = Ended::killed(0);
            sandbox.state = State::Ended { ended, since: None };
            let answer = Process::wait_response(ended).encode_to_vec();
            let waiters = std::mem::take(&mut sandbox.waiters);
            let answers = waiters
                .into_iter()
                .map(|caller| (caller, Ok(answer.clone())));
            self.answers.extend(answers);
        }
    }

    /// Whether that was pause. Then those are told who wait for it, and its cgroup is removed.
    pub(super) fn sandbox_ended(&mut self, ended: Ended) -> bool {
        let Some(sandbox) = &mut self.sandbox else {
            return false;
        };
        let State::Ready { pid, since } = sandbox.state else {
            return false;
        };
        if pid != ended.pid {
            return false;
        }
        sandbox.state = State::Ended {
            ended,
            since: Some(since),
        };
        if let Err(e) = remove(&sandbox.bundle) {
            log::error!("remove what is left of pause: {e}");
        }
        let answer = Process::wait_response(ended).encode_to_vec();
        let waiters = std::mem::take(&mut sandbox.waiters).into_iter();
        self.answers
            .extend(waiters.map(|caller| (caller, Ok(answer.clone()))));
        for (caller, forever) in std::mem::take(&mut sandbox.enders) {
            self.answers.push((caller, Ok(Vec::new())));
            self.is_over |= forever;
        }
        true
    }
}
