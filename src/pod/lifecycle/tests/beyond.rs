//! What goes beyond Kubernetes, and what is done to a pod from outside, one by one.

use std::time::Duration;

use super::super::{
    Action, ContainerSpec, EphemeralSpec, Event, Exit, Hook, Index, Kind, Phase, PodSpec,
    ProbeKind, Resize, RestartPolicy, RestartRule, RuleAction, State,
};
use super::ms;
use super::rules::{Story, container, probe, run, signal, start};
use Kind::{App, Init, Sidecar};

fn after(first: usize) -> ContainerSpec {
    ContainerSpec {
        after: vec![Index(first)],
        ..container(App)
    }
}

#[test]
fn an_app_starts_once_those_before_it_have_started_and_need_not_wait_again() {
    let mut db = container(App);
    db.probes = vec![probe(ProbeKind::Startup)];
    let (mut story, first) = Story::begin(RestartPolicy::Always, vec![after(1), db]);
    assert_eq!(first, [start(1, 0)]);
    assert_eq!(story.started(1), [], "it runs, and has not started");
    assert_eq!(story.probed(1, ProbeKind::Startup, true), [start(0, 0)]);
    story.started(0);
    assert_eq!(story.exit(1, 1), [start(1, 1)]);
    assert_eq!(
        story.exit(0, 1),
        [start(0, 1)],
        "in the same sandbox once is enough"
    );
}

#[test]
fn an_app_whose_turn_never_comes_does_not_hold_the_pod_up() {
    let mut db = container(App);
    db.probes = vec![probe(ProbeKind::Startup)];
    let (mut story, _) = Story::begin(RestartPolicy::Never, vec![db, after(0)]);
    story.started(0);
    assert_eq!(story.exit(0, 0), [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.containers()[1].state, State::Pending);
}

#[test]
fn in_the_kubelets_order_the_next_app_waits_for_the_hook_of_the_one_before_and_not_for_its_readiness()
 {
    let mut first = container(App);
    first.post_start = true;
    first.probes = vec![probe(ProbeKind::Readiness), probe(ProbeKind::Startup)];
    let (mut story, starts) = Story::of(PodSpec {
        kubelet_order: true,
        containers: vec![first, container(App), container(App)],
        ..PodSpec::default()
    });
    assert_eq!(starts, [start(0, 0)]);
    assert_eq!(story.started(0), [run(0, Hook::PostStart)]);
    assert_eq!(story.hooked(0, Hook::PostStart), [start(1, 0)]);
    assert_eq!(story.started(1), [start(2, 0)]);
}

#[test]
fn a_container_that_has_used_up_its_restarts_is_over_whatever_the_policy_says() {
    for (kind, containers) in [(App, vec![App]), (Init, vec![Init, App])] {
        let mut containers: Vec<_> = containers.into_iter().map(container).collect();
        containers[0].max_restarts = Some(1);
        let (mut story, _) = Story::begin(RestartPolicy::Always, containers);
        story.started(0);
        assert_eq!(story.exit(0, 1), [start(0, 1)], "{kind:?}");
        story.started(0);
        assert_eq!(story.exit(0, 1), [Action::StopSandbox], "{kind:?}");
        assert_eq!(story.pod.phase(), Phase::Failed, "{kind:?}");
    }
}

#[test]
fn the_cap_holds_for_restart_rules_and_is_counted_anew_for_who_asks_for_another_try() {
    let mut app = container(App);
    app.max_restarts = Some(0);
    app.restart_policy = Some(RestartPolicy::Never);
    app.rules = vec![RestartRule {
        action: RuleAction::RestartAllContainers,
        negated: false,
        exit_codes: vec![1],
    }];
    let (mut story, _) = Story::begin(RestartPolicy::Always, vec![app, container(App)]);
    story.started(0);
    story.started(1);
    assert_eq!(
        story.exit(0, 1),
        [],
        "the rule would begin everything again"
    );
    assert_eq!(story.tell(&Event::RetryRequested), [start(0, 1)]);
    story.started(0);
    assert_eq!(story.exit(0, 1), []);
    assert_eq!(story.pod.containers()[0].state, State::Terminated);
}

#[test]
fn an_init_that_takes_too_long_is_ended_and_has_failed_even_if_it_exits_with_zero() {
    let mut init = container(Init);
    init.timeout = Some(Duration::from_secs(5));
    let (mut story, _) = Story::begin(RestartPolicy::OnFailure, vec![init, container(App)]);
    story.started(0);
    let began = story.now;
    assert_eq!(story.pod.deadline(), Some(ms(began + 5_000)));
    assert_eq!(story.tick(began + 4_999), []);
    assert_eq!(story.tick(began + 5_000), [signal(0, 15)]);
    assert_eq!(story.exit(0, 0), [start(0, 1)]);
    let last = story.pod.containers()[0].last.as_ref().unwrap();
    assert_eq!((last.reason, last.exit_code), ("DeadlineExceeded", 0));
    story.started(0);
    assert_eq!(story.exit(0, 0), [start(1, 0)], "in time");
}

#[test]
fn a_resize_changes_what_runs_or_restarts_it_as_its_policy_says() {
    let containers = vec![container(Sidecar), container(App)];
    let (mut story, _) = Story::begin(RestartPolicy::OnFailure, containers);
    story.started(0);
    story.started(1);
    let resize = |container, restart| Event::ResizeRequested {
        container: Index(container),
        restart,
    };
    let container = Index(0);
    assert_eq!(
        story.tell(&resize(0, false)),
        [Action::Resize { container }]
    );
    assert_eq!(story.pod.outstanding(), [Action::Resize { container }]);
    let failure = Some("below its use".to_owned());
    story.tell(&Event::Resized { container, failure });
    let resized = &story.pod.containers()[0].run.resize;
    assert_eq!(*resized, Resize::Failed("below its use".into()));
    assert_eq!(story.tell(&resize(1, true)), [signal(1, 15)]);
    assert_eq!(story.exit(1, 0), [start(1, 1)], "although it succeeded");
    assert_eq!(story.tell(&resize(1, true)), [], "it is about to be made");
}

#[test]
fn nothing_depends_on_an_ephemeral_container_and_it_ends_with_the_sandbox() {
    let (mut story, _) = Story::begin(RestartPolicy::Never, vec![container(App)]);
    story.started(0);
    let started = |name: &str| Event::EphemeralStarted {
        container: EphemeralSpec {
            name: name.into(),
            image: "tools".into(),
            target: None,
        },
        pid: 7,
        id: "p.e".into(),
    };
    for name in ["one", "two", "two"] {
        assert_eq!(story.tell(&started(name)), []);
    }
    assert_eq!(story.pod.ephemeral().len(), 2, "a name is for one");
    let (name, exit) = ("one".to_owned(), Exit::Code(3));
    story.tell(&Event::EphemeralEnded { name, exit });
    assert_eq!(story.exit(0, 0), [Action::StopSandbox]);
    story.tell(&Event::SandboxExited);
    assert_eq!(story.pod.phase(), Phase::Succeeded);
    let reasons = story.pod.ephemeral().iter();
    let reasons: Vec<_> = reasons
        .filter_map(|e| Some(e.ended.as_ref()?.reason))
        .collect();
    assert_eq!(reasons, ["Error", "ContainerStatusUnknown"]);
}
