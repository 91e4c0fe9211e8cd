//! Probes and hooks: when they are due, how far they have come, and what their end means.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::PollFlags;

use super::{Supervisor, Watch};
use crate::pod::calls::{Call, CallPlan, Handler, Outcome, Place, ProbePlan, Told, Worker};
use crate::pod::container::container_id;
use crate::pod::lifecycle::{Event, Hook, Index, ProbeKind, State, Time};
use crate::pod::plan::Shared;

/// What goes on in the pod's containers besides their own programs.
#[derive(Debug, Default)]
pub(super) struct Calls {
    going: BTreeMap<u64, Going>,
    number: u64,
    /// With the restart number of the run that they belong to.
    workers: BTreeMap<(Index, ProbeKind), (u32, Worker)>,
}

/// A call that goes on.
#[derive(Debug)]
struct Going {
    container: Index,
    purpose: Purpose,
    call: Call,
    began: Time,
    /// How long it may take.
    timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Probe(ProbeKind),
    Hook(Hook),
}

impl Going {
    fn until(&self) -> Option<Time> {
        Some(self.began.after(self.timeout?))
    }
}

impl Calls {
    pub(super) fn waits_for(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>, PollFlags)> {
        self.going.iter().flat_map(|(&number, going)| {
            let files = going.call.waits_for().into_iter();
            files.map(move |(fd, flags)| (number, fd, flags))
        })
    }

    /// When something is to be begun or given up.
    pub(super) fn deadline(&self) -> Option<Time> {
        let due = self.workers.values().filter_map(|(_, worker)| worker.due());
        due.chain(self.going.values().filter_map(Going::until))
            .min()
    }

    /// Gives up what is called in this container: it has ended, or is about to.
    fn give_up(&mut self, container: Index, which: impl Fn(Purpose) -> bool) {
        self.going
            .retain(|_, going| going.container != container || !which(going.purpose));
    }
}

impl Supervisor<'_> {
    fn call_plan(&self, container: Index) -> &CallPlan {
        &self.plan.containers[container.0].calls
    }

    fn probe_plan(&self, container: Index, kind: ProbeKind) -> Option<&ProbePlan> {
        let mut probes = self.call_plan(container).probes.iter();
        probes.find(|probe| probe.kind == kind)
    }

    /// Begins a hook; its end, if it ends at once.
    pub(super) fn run_hook(&mut self, container: Index, hook: Hook) -> Option<Event> {
        let plan = self.call_plan(container);
        let handler = match hook {
            Hook::PostStart => &plan.post_start,
            Hook::PreStop => &plan.pre_stop,
        };
        let handler = handler.clone()?;
        let timeout = match &handler {
            Handler::Sleep(time) => Some(*time),
            _ => None,
        };
        let ended = self.begin_call(container, Purpose::Hook(hook), &handler, timeout)?;
        Some(hook_ended(container, hook, ended))
    }

    pub(super) fn give_up_hooks(&mut self, container: Index) {
        let is_hook = |purpose| matches!(purpose, Purpose::Hook(_));
        self.calls.give_up(container, is_hook);
    }

    fn begin_call(
        &mut self,
        container: Index,
        purpose: Purpose,
        handler: &Handler,
        timeout: Option<Duration>,
    ) -> Option<Outcome> {
        let began = self.clock.now();
        let begun = self.in_place(container, |place| Call::begin(handler, place));
        let call = match begun {
            Ok(call) => call,
            Err(outcome) => return Some(outcome),
        };
        self.calls.number += 1;
        let going = Going {
            container,
            purpose,
            call,
            began,
            timeout,
        };
        self.calls.going.insert(self.calls.number, going);
        None
    }

    /// In the container, and in the pod's network.
    fn in_place<T>(
        &self,
        container: Index,
        call: impl FnOnce(Place<'_>) -> Result<T, Outcome>,
    ) -> Result<T, Outcome> {
        let id = container_id(&self.plan.name, self.name(container))?;
        let own_network = self.plan.sandbox.network != Shared::Host;
        let network = match &self.pause {
            Some(pause) if own_network => Some(pause.pidfd.as_fd()),
            None if own_network => {
                return Err(Outcome::Unknown("the pod has no sandbox".into()));
            }
            _ => None,
        };
        call(Place {
            store: self.store,
            id: &id,
            network,
        })
    }

    /// After every event: each container has the probes that its state asks for.
    pub(super) fn keep_probes(&mut self) {
        let now = self.clock.now();
        for i in 0..self.plan.containers.len() {
            if self.plan.containers[i].calls.probes.is_empty() {
                continue;
            }
            let container = &self.life.containers()[i];
            let run = container.restart_count;
            let started_at = match container.state {
                State::Running { started_at, .. } => started_at,
                _ => {
                    self.calls.workers.retain(|(index, _), _| index.0 != i);
                    self.calls.give_up(Index(i), |_| true);
                    continue;
                }
            };
            let stopping = container.run.stop.is_some();
            for kind in [
                ProbeKind::Startup,
                ProbeKind::Liveness,
                ProbeKind::Readiness,
            ] {
                let wanted = match kind {
                    ProbeKind::Startup => container.is_up() && !container.started() && !stopping,
                    ProbeKind::Liveness => container.started() && !stopping,
                    ProbeKind::Readiness => container.started(),
                };
                let key = (Index(i), kind);
                let plan = self.plan.containers[i].calls.probes.iter();
                let plan = plan.clone().find(|probe| probe.kind == kind);
                match plan.filter(|_| wanted) {
                    Some(plan) => {
                        let of_run = self.calls.workers.get(&key).map(|(run, _)| *run);
                        if of_run != Some(run) {
                            let worker = Worker::new(plan, started_at, now);
                            self.calls.workers.insert(key, (run, worker));
                        }
                    }
                    None => {
                        self.calls.workers.remove(&key);
                        let same = |purpose| purpose == Purpose::Probe(kind);
                        self.calls.give_up(Index(i), same);
                    }
                }
            }
        }
    }

    /// Begins what is due, and ends what takes too long.
    pub(super) fn look_at_calls(&mut self, watch: Watch<'_>) {
        let now = self.clock.now();
        let workers = self.calls.workers.iter();
        let due = workers.filter(|(_, (_, worker))| worker.due().is_some_and(|due| due <= now));
        let due: Vec<_> = due.map(|(key, _)| *key).collect();
        for (container, kind) in due {
            let Some(plan) = self.probe_plan(container, kind) else {
                continue;
            };
            let (handler, timeout) = (plan.handler.clone(), plan.timeout);
            if let Some((_, worker)) = self.calls.workers.get_mut(&(container, kind)) {
                worker.begin();
            }
            let purpose = Purpose::Probe(kind);
            if let Some(outcome) = self.begin_call(container, purpose, &handler, Some(timeout)) {
                self.called(container, purpose, outcome, now, watch);
            }
        }
        let late = self.calls.going.iter();
        let late = late.filter(|(_, going)| going.until().is_some_and(|until| until <= now));
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            if let Some(going) = self.calls.going.remove(&number) {
                let outcome = going.call.time_out(going.timeout.unwrap_or_default());
                self.called(going.container, going.purpose, outcome, going.began, watch);
            }
        }
    }

    /// One of the files of a call has something to tell.
    pub(super) fn look_at_call(&mut self, number: u64, watch: Watch<'_>) {
        let Some(mut going) = self.calls.going.remove(&number) else {
            return;
        };
        let outcome = self.in_place(going.container, |place| Ok(going.call.go_on(place)));
        let outcome = match outcome {
            Ok(None) => {
                self.calls.going.insert(number, going);
                return;
            }
            Ok(Some(outcome)) | Err(outcome) => outcome,
        };
        self.called(going.container, going.purpose, outcome, going.began, watch);
    }

    fn called(
        &mut self,
        container: Index,
        purpose: Purpose,
        outcome: Outcome,
        began: Time,
        watch: Watch<'_>,
    ) {
        let now = self.clock.now();
        let probe = match purpose {
            Purpose::Probe(kind) => kind,
            Purpose::Hook(hook) => {
                return self.happens(hook_ended(container, hook, outcome), watch);
            }
        };
        let plan = self.plan.containers[container.0].calls.probes.iter();
        let plan = plan.clone().find(|plan| plan.kind == probe);
        let worker = self.calls.workers.get_mut(&(container, probe));
        let Some((plan, (_, worker))) = plan.zip(worker) else {
            return;
        };
        match worker.end(plan, outcome, began, now) {
            Told::Nothing => {}
            Told::Unhealthy(message) => self.happens(
                Event::Unhealthy {
                    container,
                    probe,
                    message,
                },
                watch,
            ),
            Told::Result(healthy, message) => self.happens(
                Event::Probed {
                    container,
                    probe,
                    healthy,
                    message,
                },
                watch,
            ),
        }
    }
}

fn hook_ended(container: Index, hook: Hook, outcome: Outcome) -> Event {
    let failure = match outcome {
        Outcome::Success => None,
        Outcome::Failure(why) | Outcome::Unknown(why) => Some(why),
    };
    Event::HookEnded {
        container,
        hook,
        failure,
    }
}
