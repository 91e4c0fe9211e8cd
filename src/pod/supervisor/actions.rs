//! What the lifecycle asks for, done.

use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::events::CHECK_VOLUMES;
use super::{Slot, Supervisor};
use crate::error::{Error, Result};
use crate::pod::apparmor;
use crate::pod::container::{self, Prepared};
use crate::pod::lifecycle::{Action, Event, Index, Kind, StartFailure};
use crate::pod::plan::Shared;
use crate::pod::sandbox;
use crate::pod::volumes::Volumes;
use crate::sys::process::{self, Child};

impl Supervisor<'_> {
    pub(super) fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::MakeVolumes => Some(self.make_volumes()),
            Action::StartSandbox => Some(self.start_sandbox()),
            Action::StopSandbox => self.stop_sandbox(),
            Action::Start { container, restart } => Some(self.start(container, restart)),
            Action::RunHook { container, hook } => self.run_hook(container, hook),
            Action::Resize { container } => Some(self.resize(container)),
            Action::Signal { container, signal } => {
                self.give_up_hooks(container);
                if let Err(e) = self.signal(container, signal) {
                    log::error!("{e}");
                }
                None
            }
        }
    }

    fn make_volumes(&mut self) -> Event {
        let made =
            Volumes::open(self.data.volumes()).and_then(|volumes| volumes.make(&self.plan.volumes));
        match made {
            Ok(()) => {
                self.next_check = self
                    .watches_disk()
                    .then(|| self.clock.now().after(CHECK_VOLUMES));
                Event::VolumesReady
            }
            Err(e) => Event::VolumesFailed {
                message: e.to_string(),
            },
        }
    }

    fn start_sandbox(&mut self) -> Event {
        let mut first = None;
        let mut start = || {
            sandbox::start(&self.plan.name, &self.plan.sandbox, &self.kept, || {
                first = self.prepare(Index(0));
            })
        };
        let started = apparmor::load_for(&self.plan).and_then(|()| start());
        self.next = first;
        match started {
            Ok((pause, unready)) => {
                let pid = pause.pid;
                self.unready = unready;
                match self.connect(&pause) {
                    Ok(()) => {
                        self.pause = Some(pause);
                        Event::SandboxStarted { pid }
                    }
                    Err(message) => Event::SandboxFailed { message },
                }
            }
            Err(e) => Event::SandboxFailed {
                message: e.to_string(),
            },
        }
    }

    /// Its end is told by its pidfd, unless there is none.
    fn stop_sandbox(&self) -> Option<Event> {
        match &self.pause {
            Some(pause) => {
                let _ = pidfd_send_signal(&pause.pidfd, Signal::KILL);
                None
            }
            None => Some(Event::SandboxExited),
        }
    }

    fn start(&mut self, container: Index, restart: u32) -> Event {
        let plan = &self.plan.containers[container.0];
        if let Some(output) = self.containers[container.0].output.take() {
            output.close(self.clock.now());
        }
        if restart > 0 {
            // Of a container only the files of its last run are kept.
            if let Err(e) = self.kept.retain(|key| key.container != container.0) {
                log::error!("{e}");
            }
        }
        let prepared = self.next.take_if(|next| next.container == container);
        let mut next = None;
        let started = match &self.pause {
            Some(pause) => {
                let run = container::RunOf {
                    container,
                    restart,
                    pause,
                };
                let mut meanwhile = || next = self.prepare_after(container);
                let started = self.pod().start(plan, run, prepared, &mut meanwhile);
                started.and_then(|run| {
                    let unready = self.unready.take();
                    let ready = unready.map_or(Ok(()), |unready| unready.wait(pause));
                    match ready.map_err(|e| crate::container::end(&run.created.pidfd, e)) {
                        Ok(()) => Ok(run),
                        Err(e) => Err((StartFailure::CreateContainerError, e)),
                    }
                })
            }
            None => Err((
                StartFailure::CreateContainerError,
                Error::new("the pod has no sandbox"),
            )),
        };
        self.next = next.or(self.next.take());
        match started {
            Ok(run) => {
                let pid = run.created.pid;
                self.containers[container.0] = Slot {
                    process: Some(Child {
                        pid,
                        pidfd: run.created.pidfd,
                    }),
                    output: Some(run.output),
                };
                Event::Started {
                    container,
                    pid,
                    id: format!("{}.{}", self.plan.name, plan.name),
                }
            }
            Err((reason, error)) => Event::StartFailed {
                container,
                reason,
                message: error.to_string(),
            },
        }
    }

    fn pod(&self) -> container::Pod<'_> {
        container::Pod {
            plan: &self.plan,
            store: self.store,
            dir: &self.dir,
            data: &self.data,
            kept: &self.kept,
        }
    }

    /// Prepares the container whose turn comes after this init container, which starts meanwhile: if it succeeds, as most do,
    /// the next one starts the sooner.
    fn prepare_after(&self, container: Index) -> Option<Prepared> {
        let next = Index(container.0 + 1);
        let is_init = self.plan.containers[container.0].kind == Kind::Init;
        let is_prepared = self.next.as_ref().is_some_and(|it| it.container == next);
        match is_init && !is_prepared {
            true => self.prepare(next),
            false => None,
        }
    }

    fn prepare(&self, container: Index) -> Option<Prepared> {
        self.plan.containers.get(container.0)?;
        let pause = self.pause.as_ref().map(|pause| pause.pid);
        let prepared = self.pod().prepare(container, pause);
        // It is tried again, and told, when its turn comes.
        prepared.inspect_err(|e| log::debug!("{e}")).ok()
    }

    fn signal(&self, container: Index, signal: i32) -> Result<()> {
        let step = || format!("send signal {signal} to {}", self.name(container));
        if signal == libc::SIGKILL && self.shares_pids() {
            return container::cgroup(&self.plan.containers[container.0])?.kill();
        }
        let process = self.containers[container.0].process.as_ref();
        match process.zip(process::signal(signal)) {
            Some((process, signal)) => match pidfd_send_signal(&process.pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => Ok(()),
                Err(e) => Err(Error::sys(step(), e)),
            },
            None => Ok(()),
        }
    }

    pub(super) fn name(&self, container: Index) -> &str {
        &self.plan.containers[container.0].name
    }

    /// Whether a container's processes do not end with its first one.
    pub(super) fn shares_pids(&self) -> bool {
        self.plan.sandbox.pid != Shared::Container
    }
}
