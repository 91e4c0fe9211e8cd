#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::pod::lifecycle::{ContainerSpec, Event, Exit, PodSpec, RestartPolicy, StartFailure};

/// 2001-09-09T01:46:40Z.
const START: u64 = 1_000_000_000;

fn at(seconds: u64) -> Time {
    Time((START + seconds) * 1_000_000_000)
}

fn manifest(inits: &[&str], apps: &[&str]) -> Manifest {
    let container = |name: &&str| json!({"name": name, "image": "busybox"});
    let containers = |names: &[&str]| names.iter().map(container).collect::<Vec<_>>();
    serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"initContainers": containers(inits), "containers": containers(apps)},
    }))
    .unwrap()
}

/// A pod with init container `i` and apps `a` and `b`, to which all that has happened, one event a second.
fn lived(restart_policy: RestartPolicy, events: &[Event]) -> Pod {
    let named = |name: &str, kind| ContainerSpec::new(name, kind);
    let spec = PodSpec {
        restart_policy,
        grace: Duration::from_secs(30),
        containers: vec![
            named("i", Kind::Init),
            named("a", Kind::App),
            named("b", Kind::App),
        ],
        ..PodSpec::default()
    };
    let mut pod = Pod::new(spec, at(0));
    for (second, event) in (1..).zip(events) {
        pod.step(event, at(second));
    }
    pod
}

fn setup() -> Vec<Event> {
    vec![
        Event::Accepted,
        Event::StartRequested,
        Event::VolumesReady,
        Event::SandboxStarted { pid: 10 },
    ]
}

fn started(container: usize) -> Event {
    Event::Started {
        container: Index(container),
        pid: 11,
        id: format!("p.{container}"),
    }
}

fn exited(container: usize, exit: Exit) -> Event {
    Event::Exited {
        container: Index(container),
        exit,
        oom_killed: false,
        message: None,
    }
}

fn initialized() -> Vec<Event> {
    [setup(), vec![started(0), exited(0, Exit::Code(0))]].concat()
}

fn status_of(life: &Pod, supervisor: bool, containers: [bool; 3]) -> (Manifest, Value) {
    let alive = Liveness {
        supervisor,
        pause: containers.contains(&true),
        containers: containers.to_vec(),
    };
    let pod = pod_with_status(manifest(&["i"], &["a", "b"]), "uid-1", life, &alive);
    let json = serde_json::to_value(pod.status.as_ref().unwrap()).unwrap();
    (pod, json)
}

/// The Pod, its status as JSON, and its STATUS column.
fn told(policy: RestartPolicy, events: &[Event]) -> (Manifest, Value, String) {
    let life = lived(policy, events);
    let (pod, json) = status_of(&life, true, [true; 3]);
    let line = summary(&pod, life.now());
    (pod, json, line.status)
}

#[test]
fn a_running_pod_is_told_as_kubernetes_tells_it() {
    let events = [initialized(), vec![started(1), started(2)]].concat();
    let (pod, status, word) = told(RestartPolicy::Always, &events);
    assert_eq!(word, "Running");
    assert_eq!(pod.metadata.uid.as_deref(), Some("uid-1"));
    assert_eq!(
        status,
        json!({
            "phase": "Running",
            "qosClass": "BestEffort",
            "startTime": "2001-09-09T01:46:41Z",
            "conditions": [
                {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "2001-09-09T01:46:44Z"},
                {"type": "Initialized", "status": "True", "lastTransitionTime": "2001-09-09T01:46:46Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2001-09-09T01:46:48Z"},
                {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2001-09-09T01:46:48Z"},
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2001-09-09T01:46:40Z"},
            ],
            "initContainerStatuses": [{
                "name": "i", "image": "busybox", "imageID": "", "containerID": "runp://p.0",
                "ready": true, "started": false, "restartCount": 0, "lastState": {},
                "state": {"terminated": {
                    "reason": "Completed", "exitCode": 0, "containerID": "runp://p.0",
                    "startedAt": "2001-09-09T01:46:45Z", "finishedAt": "2001-09-09T01:46:46Z",
                }},
            }],
            "containerStatuses": [
                {
                    "name": "a", "image": "busybox", "imageID": "", "containerID": "runp://p.1",
                    "ready": true, "started": true, "restartCount": 0, "lastState": {},
                    "state": {"running": {"startedAt": "2001-09-09T01:46:47Z"}},
                },
                {
                    "name": "b", "image": "busybox", "imageID": "", "containerID": "runp://p.2",
                    "ready": true, "started": true, "restartCount": 0, "lastState": {},
                    "state": {"running": {"startedAt": "2001-09-09T01:46:48Z"}},
                },
            ],
        })
    );
}

#[test]
fn while_an_init_container_runs_everything_else_waits() {
    let (_, status, word) = told(RestartPolicy::Always, &[setup(), vec![started(0)]].concat());
    assert_eq!(word, "Init:0/1");
    assert_eq!(status["phase"], "Pending");
    let conditions = &status["conditions"];
    assert_eq!(conditions[1]["reason"], "ContainersNotInitialized");
    let incomplete = "containers with incomplete status: [i]";
    assert_eq!(conditions[1]["message"], incomplete);
    assert_eq!(conditions[2]["reason"], "ContainersNotReady");
    let unready = "containers with unready status: [a b]";
    assert_eq!(conditions[2]["message"], unready);
    for app in status["containerStatuses"].as_array().unwrap() {
        let waiting = json!({"waiting": {"reason": "PodInitializing"}});
        assert_eq!(app["state"], waiting);
        assert_eq!(app["containerID"], Value::Null);
    }
}

#[test]
fn a_crash_loop_says_how_long_it_waits() {
    let crash = [started(1), exited(1, Exit::Signal(11))];
    let events = [initialized(), crash.to_vec(), crash.to_vec()].concat();
    let (pod, status, word) = told(RestartPolicy::OnFailure, &events);
    assert_eq!(word, "CrashLoopBackOff");
    let a = &status["containerStatuses"][0];
    let message = "back-off 10s restarting failed container=a pod=p_default(uid-1)";
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}});
    assert_eq!(a["state"], waiting);
    let last = &a["lastState"]["terminated"];
    assert_eq!(last["reason"], "Error");
    assert_eq!(last["exitCode"], 139);
    assert_eq!(last["signal"], 11);
    assert_eq!(a["restartCount"], 1);
    assert_eq!(summary(&pod, at(13)).restarts, "1 (3s ago)");
}

#[test]
fn an_init_container_that_cannot_be_started_says_why() {
    let fails = |reason| Event::StartFailed {
        container: Index(0),
        reason,
        message: "sh: no such file (is the image complete?)".into(),
    };
    let twice = |reason| [setup(), vec![fails(reason), fails(reason)]].concat();
    let (_, status, word) = told(RestartPolicy::Always, &twice(StartFailure::StartError));
    assert_eq!(word, "Init:CrashLoopBackOff");
    let last = &status["initContainerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["reason"], "StartError");
    assert_eq!(last["exitCode"], 128);
    assert_eq!(last["message"], "sh: no such file (is the image complete?)");
    let config = StartFailure::CreateContainerConfigError;
    let (_, status, word) = told(RestartPolicy::Never, &twice(config));
    assert_eq!(word, "Init:CreateContainerConfigError");
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["initContainerStatuses"][0]["restartCount"], 0);
}

#[test]
fn ends_of_all_kinds_have_their_words() {
    use RestartPolicy::{Always, Never, OnFailure};
    let init = |exit| [setup(), vec![started(0), exited(0, exit)]].concat();
    let apps = |events: &[Event]| {
        let running = vec![started(1), started(2)];
        [initialized(), running, events.to_vec()].concat()
    };
    let stop = Event::StopRequested { grace: None };
    let evicted = Event::Evicted {
        message: "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\".".into(),
    };
    let oom = Event::Exited {
        container: Index(1),
        exit: Exit::Signal(9),
        oom_killed: true,
        message: None,
    };
    let broken = Event::VolumesFailed {
        message: "hostPath type check failed".into(),
    };
    let done = [exited(1, Exit::Code(0)), exited(2, Exit::Code(0))];
    let table = [
        (Never, vec![], "Init:0/1", "Pending"),
        (Never, init(Exit::Code(7)), "Init:Error", "Failed"),
        (Always, apps(&[]), "Running", "Running"),
        (Never, apps(&done), "Completed", "Succeeded"),
        (Never, apps(&done[..1]), "NotReady", "Running"),
        (Never, apps(&[exited(1, Exit::Code(1))]), "Error", "Running"),
        (Never, apps(&[oom]), "OOMKilled", "Running"),
        (Always, apps(&[stop]), "Terminating", "Running"),
        (OnFailure, apps(&[evicted]), "Evicted", "Failed"),
        (Always, apps(&[Event::SandboxExited]), "Running", "Running"),
        (
            Always,
            vec![Event::Accepted, broken],
            "Init:FailedMount",
            "Pending",
        ),
    ];
    for (policy, events, word, phase) in table {
        let (_, status, said) = told(policy, &events);
        assert_eq!(
            (said.as_str(), &status["phase"]),
            (word, &json!(phase)),
            "{events:?}"
        );
    }
}

#[test]
fn an_evicted_pod_says_what_it_exceeded() {
    let evicted = Event::Evicted {
        message: "too much".into(),
    };
    let (_, status, _) = told(
        RestartPolicy::Always,
        &[initialized(), vec![evicted]].concat(),
    );
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(status["message"], "too much");
    assert_eq!(status["conditions"][2]["reason"], "PodFailed");
}

#[test]
fn without_a_supervisor_the_truth_is_told() {
    let events = [initialized(), vec![started(1), started(2)]].concat();
    let life = lived(RestartPolicy::Always, &events);
    // Nobody restarts b, and a goes on.
    let (pod, status) = status_of(&life, false, [false, true, false]);
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["reason"], "SupervisorLost");
    let apps = &status["containerStatuses"];
    assert_eq!(apps[0]["ready"], true);
    let gone = json!({"terminated": {
        "reason": "ContainerStatusUnknown", "exitCode": 137, "containerID": "runp://p.2",
        "startedAt": "2001-09-09T01:46:48Z",
    }});
    assert_eq!(apps[1]["state"], gone);
    assert_eq!(status["conditions"][2]["status"], "False");
    let line = summary(&pod, at(60));
    assert_eq!(line.status, "ContainerStatusUnknown");
    assert_eq!(line.ready, "1/2");
    // Nothing is left at all.
    let (_, status) = status_of(&life, false, [false; 3]);
    assert_eq!(status["phase"], "Failed");
    assert_eq!(status["conditions"][0]["status"], "False");
    // A supervisor makes the journal the truth.
    let (_, status) = status_of(&life, true, [false; 3]);
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["reason"], Value::Null);
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn summary_follows_kubectl() {
    let terminated = |reason: &str, exit: i32, signal: i32| json!({"terminated": {"reason": reason, "exitCode": exit, "signal": signal}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let running = || json!({"running": {}});
    let ok = || terminated("Completed", 0, 0);
    let cases = [
        // init container states, app states (running is ready), phase, READY, STATUS
        (
            vec![running(), waiting("PodInitializing")],
            vec![waiting("PodInitializing")],
            "Pending",
            "0/1",
            "Init:0/2",
        ),
        (
            vec![ok(), running()],
            vec![waiting("PodInitializing")],
            "Pending",
            "0/1",
            "Init:1/2",
        ),
        (
            vec![terminated("Error", 1, 0)],
            vec![],
            "Pending",
            "0/0",
            "Init:Error",
        ),
        (
            vec![terminated("", 3, 0)],
            vec![],
            "Pending",
            "0/0",
            "Init:ExitCode:3",
        ),
        (
            vec![terminated("", 137, 9)],
            vec![],
            "Pending",
            "0/0",
            "Init:Signal:9",
        ),
        (
            vec![waiting("CrashLoopBackOff")],
            vec![],
            "Pending",
            "0/0",
            "Init:CrashLoopBackOff",
        ),
        (
            vec![ok()],
            vec![waiting("PodInitializing")],
            "Pending",
            "0/1",
            "PodInitializing",
        ),
        (
            vec![],
            vec![waiting("ContainerCreating")],
            "Pending",
            "0/1",
            "ContainerCreating",
        ),
        (
            vec![],
            vec![running(), running()],
            "Running",
            "2/2",
            "Running",
        ),
        (vec![], vec![ok(), running()], "Running", "1/2", "NotReady"),
        (vec![], vec![ok(), ok()], "Succeeded", "0/2", "Completed"),
        (
            vec![],
            vec![running(), terminated("Error", 1, 0)],
            "Running",
            "1/2",
            "Error",
        ),
        (
            vec![],
            vec![terminated("OOMKilled", 137, 0), waiting("CrashLoopBackOff")],
            "Running",
            "0/2",
            "OOMKilled",
        ),
        (
            vec![],
            vec![terminated("", 2, 0)],
            "Failed",
            "0/1",
            "ExitCode:2",
        ),
        (
            vec![],
            vec![terminated("", 2, 15)],
            "Failed",
            "0/1",
            "Signal:15",
        ),
        (vec![], vec![], "Pending", "0/0", "Pending"),
    ];
    for (inits, apps, phase, ready, word) in cases {
        let statuses = |states: &[Value]| {
            let status = |state: &Value| {
                let ready = state["running"].is_object();
                json!({"name": "c", "image": "", "imageID": "", "restartCount": 0, "ready": ready, "state": state})
            };
            states.iter().map(status).collect::<Vec<_>>()
        };
        let named = |states: &[Value]| {
            states
                .iter()
                .map(|_| json!({"name": "c"}))
                .collect::<Vec<_>>()
        };
        let pod: Manifest = serde_json::from_value(json!({
            "metadata": {},
            "spec": {"initContainers": named(&inits), "containers": named(&apps)},
            "status": {
                "phase": phase,
                "initContainerStatuses": statuses(&inits),
                "containerStatuses": statuses(&apps),
            },
        }))
        .unwrap();
        let line = summary(&pod, at(0));
        assert_eq!((line.ready.as_str(), line.status.as_str()), (ready, word));
        assert_eq!(
            (line.restarts.as_str(), line.age.as_str()),
            ("0", "<unknown>")
        );
    }
}

#[test]
fn a_pods_age_has_two_or_three_figures() {
    let age = |seconds: u64| {
        let mut pod = manifest(&[], &["a"]);
        pod.metadata.creation_timestamp = timestamp(at(0));
        summary(&pod, at(seconds)).age
    };
    let (minute, hour, day) = (60, 3600, 86400);
    let table = [
        (0, "0s"),
        (119, "119s"),
        (2 * minute, "2m"),
        (9 * minute + 59, "9m59s"),
        (10 * minute + 5, "10m"),
        (179 * minute, "179m"),
        (3 * hour, "3h"),
        (7 * hour + 59 * minute, "7h59m"),
        (47 * hour, "47h"),
        (2 * day, "2d"),
        (7 * day + 23 * hour, "7d23h"),
        (8 * day, "8d"),
        (729 * day, "729d"),
        (731 * day, "2y1d"),
        (8 * 365 * day + 5, "8y"),
    ];
    for (seconds, expected) in table {
        assert_eq!(age(seconds), expected);
    }
}

#[test]
fn delays_read_as_in_go() {
    let table = [(10, "10s"), (80, "1m20s"), (160, "2m40s"), (300, "5m0s")];
    for (seconds, expected) in table {
        assert_eq!(go_duration(Duration::from_secs(seconds)), expected);
    }
}
