//! Example by example: the rows of the pod semantics that concern order, retry and phases, and the rules that
//! Kubernetes' documentation states in words.

use std::time::Duration;

use super::super::{
    Action, ConditionType, Container, Event, Exit, Index, Phase, Pod, PodSpec, RestartPolicy,
    Sandbox, StartFailure, State, Time,
};
use super::{ms, spec};
use RestartPolicy::{Always, Never, OnFailure};

/// A pod and its clock; events are given by name.
struct Story {
    pod: Pod,
    now: Time,
}

impl Story {
    /// Up to the running sandbox; returns what is started then.
    fn begin(spec: PodSpec) -> (Self, Vec<Action>) {
        let pod = Pod::new(spec, ms(0));
        let mut story = Self { pod, now: ms(0) };
        assert_eq!(story.tell(Event::Accepted), [Action::MakeVolumes]);
        assert_eq!(story.tell(Event::VolumesReady), [Action::StartSandbox]);
        assert_eq!(story.tell(Event::StartRequested), []);
        let first = story.sandbox_started();
        (story, first)
    }

    /// With all apps running and all init containers done.
    fn with_apps_running(spec: PodSpec) -> Self {
        let (mut story, mut starts) = Self::begin(spec);
        while let Some(Action::Start { container, .. }) = starts.pop() {
            story.started(container.0);
            if story.name(container.0).starts_with('i') {
                starts = story.exit(container.0, 0);
            }
        }
        story
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.now = self.now.after(Duration::from_millis(1));
        self.pod.step(&event, self.now)
    }

    fn started(&mut self, i: usize) -> Vec<Action> {
        let (container, pid, id) = (Index(i), 100, self.name(i));
        self.tell(Event::Started { container, pid, id })
    }

    fn exit(&mut self, i: usize, code: u8) -> Vec<Action> {
        self.exited(i, Exit::Code(code))
    }

    fn exited(&mut self, i: usize, exit: Exit) -> Vec<Action> {
        self.tell(Event::Exited {
            container: Index(i),
            exit,
            oom_killed: false,
            message: None,
        })
    }

    fn fails_to_start(&mut self, i: usize, reason: StartFailure) -> Vec<Action> {
        self.tell(Event::StartFailed {
            container: Index(i),
            reason,
            message: "why".into(),
        })
    }

    fn sandbox_started(&mut self) -> Vec<Action> {
        self.tell(Event::SandboxStarted { pid: 99 })
    }

    fn stop(&mut self, grace: Option<u64>) -> Vec<Action> {
        let grace = grace.map(Duration::from_secs);
        self.tell(Event::StopRequested { grace })
    }

    /// Lets time pass to the deadline.
    fn wait(&mut self) -> Vec<Action> {
        self.now = self.pod.deadline().expect("nothing to wait for");
        self.pod.step(&Event::Tick, self.now)
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    fn name(&self, i: usize) -> String {
        self.pod.spec.containers[i].name.clone()
    }

    fn container(&self, i: usize) -> &Container {
        &self.pod.containers()[i]
    }

    fn condition(&self, kind: ConditionType) -> bool {
        let mut all = self.pod.conditions().into_iter();
        all.find(|c| c.kind == kind).unwrap().status
    }
}

fn start(container: usize, restart: u32) -> Action {
    Action::Start {
        container: Index(container),
        restart,
    }
}

fn signal(container: usize, signal: i32) -> Action {
    Action::Signal {
        container: Index(container),
        signal,
    }
}

#[test]
fn row_1_all_inits_succeed_before_any_app_starts() {
    let (mut story, first) = Story::begin(spec(Always, 2, 2));
    assert_eq!(first, [start(0, 0)]);
    assert_eq!(story.started(0), []);
    assert_eq!(story.exit(0, 0), [start(1, 0)]);
    assert_eq!(story.started(1), []);
    let init_done = story.now;
    assert_eq!(story.exit(1, 0), [start(2, 0), start(3, 0)]);
    assert_eq!(story.pod.phase(), Phase::Pending);
    story.started(3);
    story.started(2);
    assert_eq!(story.pod.phase(), Phase::Running);
    for app in [2, 3] {
        let State::Running { started_at, .. } = story.container(app).state else {
            panic!("app {app} does not run");
        };
        assert!(started_at > init_done);
    }
}

#[test]
fn row_2_inits_run_one_at_a_time_in_spec_order() {
    let (mut story, mut starts) = Story::begin(spec(Always, 3, 1));
    for i in 0..3 {
        assert_eq!(starts, [start(i, 0)]);
        story.started(i);
        let running = story.pod.containers().iter().filter(|c| c.alive());
        assert_eq!(running.count(), 1);
        starts = story.exit(i, 0);
    }
    assert_eq!(starts, [start(3, 0)]);
}

#[test]
fn row_3_an_init_that_does_not_exit_blocks_for_ever() {
    let (mut story, _) = Story::begin(spec(Always, 1, 1));
    story.started(0);
    story.pass(86_400);
    assert_eq!(story.tell(Event::Tick), []);
    assert_eq!(story.pod.deadline(), None);
    assert_eq!(story.pod.phase(), Phase::Pending);
    assert_eq!(story.container(1).state, State::Pending);
}

#[test]
fn row_7_a_failed_init_is_retried_alone() {
    for policy in [Always, OnFailure] {
        let (mut story, _) = Story::begin(spec(policy, 2, 1));
        story.started(0);
        story.exit(0, 0);
        story.started(1);
        assert_eq!(story.exit(1, 1), [start(1, 1)], "at once, the first time");
        story.started(1);
        assert_eq!(story.exit(1, 1), [], "then with back-off");
        assert_eq!(story.wait(), [start(1, 2)]);
        story.started(1);
        assert_eq!(story.exit(1, 0), [start(2, 0)]);
        assert_eq!(story.container(1).restart_count, 2);
        assert_eq!(story.container(0).restart_count, 0);
        assert!(matches!(
            story.pod.sandbox(),
            Sandbox::Running { pid: 99, .. }
        ));
    }
}

#[test]
fn row_8_under_never_a_failed_init_fails_the_pod_for_good() {
    let (mut story, _) = Story::begin(spec(Never, 2, 1));
    story.started(0);
    assert_eq!(story.exit(0, 3), [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert!(!story.pod.finished());
    assert_eq!(story.tell(Event::SandboxExited), []);
    assert!(story.pod.finished());
    assert_eq!(story.container(2).state, State::Pending);
    assert_eq!(story.pod.exit_code(), 3);
}

#[test]
fn row_9_under_always_a_successful_init_runs_once() {
    let mut story = Story::with_apps_running(spec(Always, 1, 1));
    assert_eq!(story.exit(1, 0), [start(1, 1)]);
    story.started(1);
    assert_eq!(story.container(0).restart_count, 0);
    assert_eq!(story.container(0).state, State::Terminated);
}

#[test]
fn row_10_failing_to_start_is_retried_too() {
    let (mut story, _) = Story::begin(spec(OnFailure, 0, 1));
    let start_error = StartFailure::StartError;
    assert_eq!(story.fails_to_start(0, start_error), [start(0, 1)]);
    assert_eq!(story.fails_to_start(0, start_error), []);
    let last = story.container(0).last.clone().unwrap();
    assert_eq!((last.reason, last.exit_code), ("StartError", 128));
    assert_eq!(last.message.as_deref(), Some("why"));
    assert_eq!(story.wait(), [start(0, 2)]);
}

#[test]
fn row_10_under_never_a_program_that_cannot_be_executed_fails_the_pod() {
    let (mut story, _) = Story::begin(spec(Never, 0, 1));
    let actions = story.fails_to_start(0, StartFailure::StartError);
    assert_eq!(actions, [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.exit_code(), 128);
}

#[test]
fn what_was_never_made_is_retried_under_every_policy_and_is_no_restart() {
    let (mut story, _) = Story::begin(spec(Never, 1, 1));
    let error = StartFailure::CreateContainerConfigError;
    assert_eq!(story.fails_to_start(0, error), [start(0, 0)]);
    assert_eq!(story.fails_to_start(0, error), []);
    let failure = story.container(0).failure.clone().unwrap();
    assert_eq!(failure.reason, "CreateContainerConfigError");
    assert_eq!(story.wait(), [start(0, 0)]);
    story.started(0);
    assert_eq!(story.container(0).failure, None);
    assert_eq!(story.exit(0, 0), [start(1, 0)]);
}

#[test]
fn row_11_one_failure_stops_later_inits_and_apps() {
    let (mut story, _) = Story::begin(spec(Always, 3, 1));
    story.started(0);
    story.exit(0, 0);
    story.started(1);
    story.exit(1, 1);
    story.started(1);
    story.exit(1, 1);
    assert!(matches!(story.container(1).state, State::BackOff { .. }));
    assert_eq!(story.container(2).state, State::Pending);
    assert_eq!(story.container(3).state, State::Pending);
}

#[test]
fn row_12_under_always_apps_restart_whatever_the_exit_code() {
    let mut story = Story::with_apps_running(spec(Always, 0, 1));
    assert_eq!(story.exit(0, 0), [start(0, 1)]);
    story.started(0);
    story.exit(0, 0);
    assert_eq!(story.wait(), [start(0, 2)]);
    assert_eq!(story.pod.phase(), Phase::Running, "it never completes");
}

#[test]
fn row_13_a_pod_is_not_ready_before_its_inits_succeeded() {
    let (mut story, _) = Story::begin(spec(Always, 1, 1));
    story.started(0);
    assert!(!story.condition(ConditionType::Ready));
    assert!(!story.condition(ConditionType::Initialized));
    assert!(story.condition(ConditionType::PodReadyToStartContainers));
    story.exit(0, 0);
    assert!(story.condition(ConditionType::Initialized));
    assert!(!story.condition(ConditionType::Ready));
    story.started(1);
    assert!(story.condition(ConditionType::Ready));
    let ready = story.pod.conditions()[2].clone();
    assert_eq!(ready.last_transition, story.now);
}

#[test]
fn row_16_an_app_that_is_killed_reruns_no_init() {
    let mut story = Story::with_apps_running(spec(Always, 2, 1));
    assert_eq!(story.exited(2, Exit::Signal(9)), [start(2, 1)]);
    assert_eq!(story.container(2).last.as_ref().unwrap().exit_code, 137);
}

#[test]
fn row_16_and_36_when_pause_dies_everything_is_made_again_but_the_volumes() {
    let mut story = Story::with_apps_running(spec(Always, 2, 2));
    let killed = story.tell(Event::SandboxExited);
    assert_eq!(killed, [signal(2, 9), signal(3, 9)]);
    assert!(!story.condition(ConditionType::PodReadyToStartContainers));
    assert_eq!(story.exited(2, Exit::Signal(9)), []);
    assert_eq!(story.exited(3, Exit::Signal(9)), [Action::StartSandbox]);
    assert_eq!(story.pod.phase(), Phase::Running);
    assert_eq!(story.sandbox_started(), [start(0, 1)]);
    story.started(0);
    assert_eq!(story.exit(0, 0), [start(1, 1)]);
    story.started(1);
    assert_eq!(story.exit(1, 0), [start(2, 1), start(3, 1)]);
    assert!(story.condition(ConditionType::Initialized));
}

#[test]
fn row_36_a_pause_that_keeps_dying_is_made_again_with_back_off() {
    let mut story = Story::with_apps_running(spec(Always, 0, 1));
    story.tell(Event::SandboxExited);
    assert_eq!(story.exited(0, Exit::Signal(9)), [Action::StartSandbox]);
    story.sandbox_started();
    story.started(0);
    story.tell(Event::SandboxExited);
    assert_eq!(story.exited(0, Exit::Signal(9)), []);
    let died = story.now;
    assert_eq!(story.wait(), [Action::StartSandbox]);
    assert!(story.now.since(died) < Duration::from_secs(10));
}

#[test]
fn row_36_under_on_failure_an_app_that_succeeded_is_not_run_again() {
    let mut story = Story::with_apps_running(spec(OnFailure, 1, 2));
    story.exit(1, 0);
    story.tell(Event::SandboxExited);
    assert_eq!(story.exited(2, Exit::Signal(9)), [Action::StartSandbox]);
    assert_eq!(story.sandbox_started(), [start(0, 1)]);
    story.started(0);
    assert_eq!(story.exit(0, 0), [start(2, 1)]);
}

#[test]
fn row_36_under_never_a_dead_pause_ends_the_pod() {
    // While an app runs, while an init runs, and between two.
    let mut story = Story::with_apps_running(spec(Never, 1, 1));
    story.tell(Event::SandboxExited);
    assert_eq!(story.exited(1, Exit::Signal(9)), []);
    assert!(story.pod.finished());
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.exit_code(), 137);

    let (mut story, _) = Story::begin(spec(Never, 2, 1));
    story.started(0);
    story.exit(0, 0);
    story.tell(Event::SandboxExited);
    assert!(!story.pod.finished(), "the second init is being created");
    story.fails_to_start(1, StartFailure::CreateContainerError);
    assert!(story.pod.finished());
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.exit_code(), 1);
}

#[test]
fn back_off_doubles_from_ten_seconds_to_five_minutes() {
    let mut story = Story::with_apps_running(spec(Always, 0, 1));
    let mut restart = 0;
    let mut crash = |story: &mut Story| {
        let mut actions = story.exit(0, 1);
        let ended = story.now;
        if actions.is_empty() {
            actions = story.wait();
        }
        restart += 1;
        assert_eq!(actions, [start(0, restart)]);
        story.started(0);
        story.now.since(ended).as_secs()
    };
    let waits = [0; 9].map(|_| crash(&mut story));
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn back_off_is_forgotten_after_more_than_ten_minutes() {
    for (millis, forgotten) in [(600_000, false), (600_001, true)] {
        let mut story = Story::with_apps_running(spec(Always, 0, 1));
        assert_eq!(story.exit(0, 1), [start(0, 1)]);
        let restarted = story.now;
        story.started(0);
        story.now = restarted.after(Duration::from_millis(millis - 1));
        let actions = story.exit(0, 1);
        assert_eq!(actions == [start(0, 2)], forgotten, "after {millis} ms");
    }
}

#[test]
fn a_stop_terminates_and_then_kills() {
    let mut story = Story::with_apps_running(spec(Always, 0, 2));
    assert_eq!(story.stop(None), [signal(0, 15), signal(1, 15)]);
    assert_eq!(story.exit(0, 0), [], "restartPolicy has no effect any more");
    assert_eq!(story.pod.deadline(), Some(story.pod.stopping().unwrap()));
    assert_eq!(story.wait(), [signal(1, 9)]);
    assert_eq!(story.exited(1, Exit::Signal(9)), [Action::StopSandbox]);
    story.tell(Event::SandboxExited);
    assert!(story.pod.finished());
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.exit_code(), 137);
}

#[test]
fn a_stopped_pod_whose_apps_exit_with_zero_has_succeeded() {
    let mut story = Story::with_apps_running(spec(Always, 1, 1));
    story.stop(None);
    assert_eq!(story.exit(1, 0), [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Succeeded);
    assert_eq!(story.pod.exit_code(), 0);
}

#[test]
fn a_second_stop_can_only_shorten_the_grace() {
    let mut story = Story::with_apps_running(spec(Always, 0, 1));
    story.stop(None);
    let first = story.pod.deadline().unwrap();
    assert_eq!(story.stop(Some(60)), []);
    assert_eq!(story.pod.deadline(), Some(first));
    story.stop(Some(1));
    assert!(story.pod.deadline().unwrap() < first);
    assert_eq!(story.stop(Some(0)), [signal(0, 9)]);
    assert_eq!(story.pod.deadline(), None);
}

#[test]
fn a_stop_without_grace_kills_at_once() {
    let mut story = Story::with_apps_running(spec(Always, 0, 1));
    assert_eq!(story.stop(Some(0)), [signal(0, 9)]);
}

#[test]
fn a_stop_wins_over_a_start_that_is_under_way() {
    let (mut story, _) = Story::begin(spec(Always, 1, 1));
    assert_eq!(story.stop(None), []);
    assert_eq!(story.started(0), [signal(0, 15)]);
    assert_eq!(story.exit(0, 0), [Action::StopSandbox], "no app is started");
    assert_eq!(story.pod.phase(), Phase::Failed, "its apps never ran");
    assert_eq!(story.pod.exit_code(), 143);
}

#[test]
fn a_stop_before_anything_exists_ends_the_pod_at_once() {
    let mut pod = Pod::new(spec(Always, 1, 1), ms(0));
    let stop = Event::StopRequested { grace: None };
    assert_eq!(pod.step(&stop, ms(1)), []);
    assert!(pod.finished());
    assert_eq!((pod.phase(), pod.exit_code()), (Phase::Failed, 143));
}

#[test]
fn an_evicted_pod_has_failed_whatever_its_containers_say() {
    let mut story = Story::with_apps_running(spec(Always, 0, 1));
    let message = "too much".to_owned();
    assert_eq!(story.tell(Event::Evicted { message }), [signal(0, 9)]);
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.reason(), Some(("Evicted", "too much")));
    assert_eq!(story.exit(0, 0), [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Failed);
}

#[test]
fn a_pod_that_has_run_to_its_end_takes_its_sandbox_down() {
    let mut story = Story::with_apps_running(spec(OnFailure, 1, 2));
    assert_eq!(story.exit(1, 0), []);
    assert_eq!(story.exit(2, 1), [start(2, 1)]);
    story.started(2);
    assert_eq!(story.exit(2, 0), [Action::StopSandbox]);
    assert_eq!(story.pod.phase(), Phase::Succeeded);
    story.tell(Event::SandboxExited);
    assert!(story.pod.finished());
    let before = story.pod.clone();
    story.stop(None);
    story.started(2);
    assert_eq!(story.pod.outstanding(), []);
    assert_eq!(story.pod.containers(), before.containers());
}

#[test]
fn under_never_the_exit_code_is_that_of_the_first_app_that_failed() {
    let mut story = Story::with_apps_running(spec(Never, 0, 3));
    story.exit(1, 5);
    assert_eq!(story.pod.phase(), Phase::Running);
    story.exit(0, 4);
    story.exit(2, 0);
    assert_eq!(story.pod.phase(), Phase::Failed);
    assert_eq!(story.pod.exit_code(), 5);
}

#[test]
fn volumes_and_sandbox_are_tried_again() {
    let mut story = Story {
        pod: Pod::new(spec(Never, 0, 1), ms(0)),
        now: ms(0),
    };
    let message = || "why".to_owned();
    story.tell(Event::Accepted);
    let failed = Event::VolumesFailed { message: message() };
    assert_eq!(story.tell(failed.clone()), [Action::MakeVolumes]);
    assert_eq!(story.tell(failed), []);
    assert_eq!(story.pod.setup_failure().unwrap().reason, "FailedMount");
    assert_eq!(story.wait(), [Action::MakeVolumes]);
    assert_eq!(story.tell(Event::VolumesReady), [Action::StartSandbox]);
    assert_eq!(story.pod.setup_failure(), None);
    let failed = Event::SandboxFailed { message: message() };
    assert_eq!(story.tell(failed.clone()), [Action::StartSandbox]);
    assert_eq!(story.tell(failed), []);
    let failure = story.pod.setup_failure().unwrap();
    assert_eq!(failure.reason, "FailedCreatePodSandBox");
    assert_eq!(story.wait(), [Action::StartSandbox]);
}

#[test]
fn an_init_killed_for_want_of_memory_has_failed_even_if_it_exits_with_zero() {
    let (mut story, _) = Story::begin(spec(OnFailure, 1, 1));
    story.started(0);
    let again = story.tell(Event::Exited {
        container: Index(0),
        exit: Exit::Code(0),
        oom_killed: true,
        message: None,
    });
    assert_eq!(again, [start(0, 1)]);
    assert_eq!(
        story.container(0).last.as_ref().unwrap().reason,
        "OOMKilled"
    );
}

#[test]
fn who_takes_over_knows_what_was_ordered_and_is_not_done() {
    let (mut story, first) = Story::begin(spec(Always, 0, 2));
    assert_eq!(story.pod.outstanding(), first);
    story.started(0);
    story.stop(None);
    assert_eq!(story.pod.outstanding(), [signal(0, 15), start(1, 0)]);
}
