//! The rules that Kubernetes' documentation states in words of sidecars, probes, hooks and restart rules, one by one.

use std::time::Duration;

use super::super::{
    Action, ContainerSpec, Event, Exit, Hook, Index, Kind, Phase, Pod, PodSpec, ProbeKind,
    ProbeSpec, RestartPolicy, RestartRule, RuleAction, State,
};
use super::ms;

/// A pod and how much time has passed, in milliseconds.
pub(super) struct Story {
    pub(super) pod: Pod,
    pub(super) now: u64,
}

impl Story {
    /// Up to the first starts.
    pub(super) fn begin(
        policy: RestartPolicy,
        containers: Vec<ContainerSpec>,
    ) -> (Self, Vec<Action>) {
        Self::of(PodSpec {
            restart_policy: policy,
            containers,
            ..PodSpec::default()
        })
    }

    pub(super) fn of(spec: PodSpec) -> (Self, Vec<Action>) {
        let spec = PodSpec {
            grace: Duration::from_secs(30),
            ..spec
        };
        let pod = Pod::new(spec, ms(0));
        let mut story = Self { pod, now: 0 };
        for event in [Event::StartRequested, Event::Accepted, Event::VolumesReady] {
            story.tell(&event);
        }
        let first = story.tell(&Event::SandboxStarted { pid: 9 });
        (story, first)
    }

    pub(super) fn tell(&mut self, event: &Event) -> Vec<Action> {
        self.now += 1;
        self.pod.step(event, ms(self.now))
    }

    pub(super) fn started(&mut self, i: usize) -> Vec<Action> {
        self.tell(&Event::Started {
            container: Index(i),
            pid: 100,
            id: String::new(),
        })
    }

    pub(super) fn exit(&mut self, i: usize, code: u8) -> Vec<Action> {
        self.tell(&Event::Exited {
            container: Index(i),
            exit: Exit::Code(code),
            oom_killed: false,
            message: None,
        })
    }

    pub(super) fn probed(&mut self, i: usize, probe: ProbeKind, healthy: bool) -> Vec<Action> {
        self.tell(&Event::Probed {
            container: Index(i),
            probe,
            healthy,
            message: String::new(),
        })
    }

    pub(super) fn hooked(&mut self, i: usize, hook: Hook) -> Vec<Action> {
        self.tell(&Event::HookEnded {
            container: Index(i),
            hook,
            failure: None,
        })
    }

    pub(super) fn stop(&mut self) -> Vec<Action> {
        self.tell(&Event::StopRequested { grace: None })
    }

    pub(super) fn tick(&mut self, at: u64) -> Vec<Action> {
        self.now = at;
        self.pod.step(&Event::Tick, ms(at))
    }

    fn ready(&self) -> bool {
        let conditions = self.pod.conditions();
        conditions
            .iter()
            .any(|c| c.kind.name() == "Ready" && c.status)
    }
}

pub(super) fn container(kind: Kind) -> ContainerSpec {
    ContainerSpec::new(format!("{kind:?}"), kind)
}

pub(super) fn probe(kind: ProbeKind) -> ProbeSpec {
    ProbeSpec { kind, grace: None }
}

pub(super) fn start(container: usize, restart: u32) -> Action {
    let container = Index(container);
    Action::Start { container, restart }
}

pub(super) fn signal(container: usize, signal: i32) -> Action {
    let container = Index(container);
    Action::Signal { container, signal }
}

pub(super) fn run(container: usize, hook: Hook) -> Action {
    let container = Index(container);
    Action::RunHook { container, hook }
}

use Kind::{App, Init, Sidecar};

#[test]
fn the_next_init_starts_once_a_sidecar_has_started_and_not_only_runs() {
    let mut side = container(Sidecar);
    side.probes = vec![probe(ProbeKind::Startup)];
    side.post_start = true;
    let (mut story, first) = Story::begin(
        RestartPolicy::Never,
        vec![side, container(Init), container(App)],
    );
    assert_eq!(first, [start(0, 0)]);
    assert_eq!(story.started(0), [run(0, Hook::PostStart)]);
    assert_eq!(story.hooked(0, Hook::PostStart), []);
    assert_eq!(story.probed(0, ProbeKind::Startup, true), [start(1, 0)]);
    story.started(1);
    assert_eq!(story.exit(0, 1), [start(0, 1)], "whatever the pod's policy");
    assert_eq!(
        story.exit(1, 0),
        [start(2, 0)],
        "it is not waited for twice"
    );
}

#[test]
fn sidecars_end_after_the_apps_in_reverse_order_and_count_for_nothing() {
    let containers = vec![container(Sidecar), container(Sidecar), container(App)];
    let (mut story, _) = Story::begin(RestartPolicy::OnFailure, containers);
    story.started(0);
    story.started(1);
    story.started(2);
    assert_eq!(story.exit(2, 0), [signal(1, 15)]);
    assert_eq!(story.exit(1, 7), [signal(0, 15)], "not restarted any more");
    assert_eq!(story.exit(0, 7), [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Succeeded);
}

#[test]
fn at_the_end_of_the_grace_period_everything_gets_its_signal_and_two_seconds() {
    let mut app = container(App);
    app.pre_stop = true;
    let (mut story, _) = Story::begin(RestartPolicy::Always, vec![container(Sidecar), app]);
    story.started(0);
    story.started(1);
    assert_eq!(
        story.stop(),
        [run(1, Hook::PreStop)],
        "all hooks at once, before any signal"
    );
    let stopped = story.now;
    assert_eq!(story.tick(stopped + 30_000), [signal(0, 15), signal(1, 15)]);
    assert_eq!(story.tick(stopped + 31_999), []);
    assert_eq!(story.tick(stopped + 32_000), [signal(0, 9), signal(1, 9)]);
}

#[test]
fn the_stop_signal_comes_after_the_hook_with_what_is_left_of_the_grace() {
    let mut app = container(App);
    app.pre_stop = true;
    app.stop_signal = Some(libc::SIGQUIT);
    let (mut story, _) = Story::begin(RestartPolicy::Always, vec![app]);
    story.started(0);
    story.stop();
    let stopped = story.now;
    story.now += 10_000;
    assert_eq!(story.hooked(0, Hook::PreStop), [signal(0, libc::SIGQUIT)]);
    assert_eq!(story.pod.deadline(), Some(ms(stopped + 30_000)));
}

#[test]
fn readiness_counts_for_apps_and_sidecars_and_begins_with_no() {
    let mut side = container(Sidecar);
    side.probes = vec![probe(ProbeKind::Readiness)];
    let (mut story, _) = Story::begin(RestartPolicy::Always, vec![side, container(App)]);
    assert_eq!(story.started(0), [start(1, 0)], "it gates nothing");
    story.started(1);
    assert!(!story.ready());
    story.probed(0, ProbeKind::Readiness, true);
    assert!(story.ready());
    assert_eq!(story.probed(0, ProbeKind::Readiness, false), []);
    assert!(!story.ready());
}

#[test]
fn a_failed_liveness_probe_ends_the_container_and_restarts_it_unless_that_is_never() {
    for (policy, again) in [
        (RestartPolicy::Always, true),
        (RestartPolicy::OnFailure, true),
        (RestartPolicy::Never, false),
    ] {
        let mut app = container(App);
        app.probes = vec![ProbeSpec {
            kind: ProbeKind::Liveness,
            grace: Some(Duration::from_secs(5)),
        }];
        let (mut story, _) = Story::begin(policy, vec![app, container(App)]);
        story.started(0);
        story.started(1);
        assert_eq!(story.probed(0, ProbeKind::Liveness, false), [signal(0, 15)]);
        let due = ms(story.now + 5_000);
        assert_eq!(story.pod.deadline(), Some(due), "the probe's own grace");
        assert_eq!(story.exit(0, 0) == [start(0, 1)], again, "{policy:?}");
    }
}

#[test]
fn rules_go_first_then_the_containers_own_policy_then_the_pods() {
    let rule = |action, negated, codes: &[i32]| RestartRule {
        action,
        negated,
        exit_codes: codes.to_vec(),
    };
    let mut app = container(App);
    app.restart_policy = Some(RestartPolicy::Never);
    app.rules = vec![
        rule(RuleAction::Restart, false, &[42]),
        rule(RuleAction::RestartAllContainers, false, &[42, 88]),
    ];
    let (mut story, _) = Story::begin(
        RestartPolicy::Always,
        vec![container(Init), app, container(App)],
    );
    story.started(0);
    story.exit(0, 0);
    story.started(1);
    story.started(2);
    assert_eq!(story.exit(1, 42), [start(1, 1)], "the first that fits");
    story.started(1);
    assert_eq!(story.exit(1, 88), [signal(2, 9)], "no grace");
    let restarting = |story: &Story| {
        let all = story.pod.conditions();
        all.iter()
            .find(|c| c.kind.name() == "AllContainersRestarting")
            .map(|c| c.status)
    };
    assert_eq!(restarting(&story), Some(true));
    assert_eq!(story.exit(2, 0), [start(0, 1)], "in the same sandbox");
    assert_eq!(restarting(&story), Some(false));
    assert_eq!(story.pod.phase(), Phase::Pending);
    let initialized = story.pod.conditions()[1].clone();
    assert!(initialized.status, "it stays initialized");
    story.started(0);
    assert_eq!(
        story.exit(0, 0),
        [start(2, 1)],
        "back-off holds for who failed"
    );
    story.started(2);
    assert_eq!(story.tick(story.now + 10_000), [start(1, 2)]);
    story.started(1);
    assert_eq!(story.pod.phase(), Phase::Running);
    assert_eq!(
        story.exit(1, 1),
        [],
        "no rule fits, and its own policy is Never"
    );
    assert_eq!(story.pod.containers()[1].state, State::Terminated);
}

#[test]
fn a_pod_that_takes_too_long_has_failed_however_it_ends() {
    let (mut story, _) = Story::begin(RestartPolicy::Always, vec![container(App)]);
    let mut spec = story.pod.spec().clone();
    spec.active_deadline = Some(Duration::from_secs(60));
    story.pod = Pod::new(spec, ms(0));
    story.now = 0;
    for event in [Event::StartRequested, Event::Accepted, Event::VolumesReady] {
        story.tell(&event);
    }
    story.tell(&Event::SandboxStarted { pid: 9 });
    story.started(0);
    assert_eq!(story.pod.deadline(), Some(ms(60_002)));
    assert_eq!(story.tick(60_002), [signal(0, 15)]);
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.reason().unwrap().0, "DeadlineExceeded");
    assert_eq!(story.exit(0, 0), [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Failed);
}
