//! A supervisor that is killed, and another one that goes on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::pod::{container_status, is_running, terminated};
use crate::support::{Case, Need, Pod, Shared, eventually, process, sh};

/// In so many moments of a pod's life somebody is killed, evenly spread over all of it. `RUNP_TEST_MOMENTS` sets another
/// number.
const MOMENTS: u32 = 200;

fn moments(share: u32) -> u32 {
    let asked = std::env::var("RUNP_TEST_MOMENTS").ok();
    asked.map_or(MOMENTS, |asked| asked.parse().unwrap()) / share
}

fn attach(case: &Case, pod: &Pod<'_>) -> crate::support::Done {
    case.pod(["attach", "--supervise", "--quiet", &pod.name])
}

/// A pod of three init containers, a sidecar among them, and two apps, which write into a log what they do.
struct Witnessed<'a> {
    pod: Pod<'a>,
    shared: Shared,
}

impl<'a> Witnessed<'a> {
    fn new(case: &'a Case, name: &str, policy: &str) -> Self {
        let shared = Shared::new(case);
        for file in ["log", "kept"] {
            let _ = std::fs::remove_file(shared.path.join(file));
        }
        let speaks = |name: &str| {
            sh(
                name,
                &format!(
                    "[ ! -e /keep/{name} ] || echo {name} >> /shared/kept
                     : > /keep/{name}; echo {name} >> /shared/log; echo {name} speaks"
                ),
            )
        };
        let mut side = sh(
            "side",
            "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done",
        );
        side["restartPolicy"] = json!("Always");
        let mut spec = json!({
            "restartPolicy": policy,
            "volumes": [shared.volume(), {"name": "keep", "emptyDir": {}}],
            "initContainers": [speaks("one"), speaks("two"), side, speaks("three")],
            "containers": [speaks("a"), speaks("b")],
        });
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().unwrap() {
                // One whose terminal hangs up does not live to say anything.
                let has_terminal = ["two", "side", "a"].map(Value::from);
                container["tty"] = json!(has_terminal.contains(&container["name"]));
                container["volumeMounts"] = json!([
                    {"name": "shared", "mountPath": "/shared"},
                    {"name": "keep", "mountPath": "/keep"},
                ]);
            }
        }
        let pod = Pod::new(case, name, spec);
        Self { pod, shared }
    }

    /// Begins to run it in the foreground; what fails is tried again soon.
    fn begin(&self, case: &Case) -> std::process::Child {
        let mut command = case.pod_runtime();
        command.args(["run", "--quiet", "--max-container-restart-period", "1"]);
        command.arg(&self.pod.dir).spawn().unwrap()
    }

    /// Before that nobody knows that it was to be started.
    fn was_begun(&self) -> bool {
        self.pod.journal().contains("startRequested")
    }

    fn is_over(&self) -> bool {
        let status = &self.pod.status()["status"];
        let ended = ["Succeeded", "Failed"].map(Value::from);
        ended.contains(&status["phase"]) && status["reason"] != "SupervisorLost"
    }

    /// Pause, as the journal has it, if it is there.
    fn pause(&self) -> Option<i32> {
        let journal = self.pod.journal();
        let mut entries = journal
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let pid = entries.find_map(|entry| {
            let event = &entry["event"];
            (event["type"] == "sandboxStarted").then(|| event["pid"].as_i64())?
        })?;
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let ours = cgroups.contains(&self.pod.name);
        ours.then(|| i32::try_from(pid).unwrap())
    }

    #[track_caller]
    fn assert_succeeded(&self, what: &str) {
        let status = self.pod.status();
        let journal = self.pod.journal();
        assert_eq!(status["status"]["phase"], "Succeeded", "{what}\n{journal}");
        assert_eq!(self.pod.log("three"), "three speaks\n", "{what}\n{journal}");
        assert_eq!(self.pod.log("a"), "a speaks\r\n", "{what}\n{journal}");
    }
}

/// How many entries the journal of such a pod has that nobody disturbs.
fn a_whole_life(case: &Case) -> u32 {
    let witnessed = Witnessed::new(case, "whole", "Never");
    assert!(witnessed.begin(case).wait().unwrap().success());
    witnessed.assert_succeeded("undisturbed");
    let entries = witnessed.pod.journal().lines().count();
    witnessed.pod.delete().ok();
    u32::try_from(entries).unwrap()
}

/// When somebody is killed: at one of so many moments, evenly spread over all entries of a journal and over the time that
/// lies between two of them.
#[derive(Clone, Copy)]
struct Moment {
    entries: u32,
    later: Duration,
}

impl Moment {
    fn new(number: u32, of: u32, entries: u32) -> Self {
        let place = number * entries * 100 / of;
        Self {
            entries: place / 100,
            later: Duration::from_micros(100) * (place % 100),
        }
    }

    /// Waits until it has come, or the process has ended; `false` then.
    fn wait(self, pod: &Pod<'_>, process: &mut std::process::Child) -> bool {
        eventually("the moment comes, or the pod is over", || {
            let ended = process.try_wait().unwrap().is_some();
            let entries = u32::try_from(pod.journal().lines().count()).unwrap();
            (ended || entries >= self.entries).then_some(())
        });
        std::thread::sleep(self.later);
        process.try_wait().unwrap().is_none()
    }
}

fn end(mut process: std::process::Child) -> std::process::ExitStatus {
    process.kill().unwrap();
    process.wait().unwrap()
}

#[test]
fn a_supervisor_may_be_killed_at_any_moment_and_no_init_runs_twice_after_its_success() {
    // Older kernels forget how a process ended that nobody waited for.
    let Some(case) = Case::new(&[Need::Runp, Need::Kernel(6, 15)]) else {
        return;
    };
    let whole = a_whole_life(&case);
    let moments = moments(1);
    let mut killed = 0;
    for number in 0..moments {
        let witnessed = Witnessed::new(&case, &format!("p{number}"), "Never");
        let mut supervisor = witnessed.begin(&case);
        let alive = Moment::new(number, moments, whole).wait(&witnessed.pod, &mut supervisor);
        end(supervisor);
        if witnessed.was_begun() {
            killed += u32::from(alive);
            // One of three successors fares no better.
            if number % 3 == 0 && !witnessed.is_over() {
                let mut second = case.pod_runtime();
                second.args(["attach", "--supervise", "--quiet", &witnessed.pod.name]);
                let mut second = second.stderr(std::process::Stdio::null()).spawn().unwrap();
                let written = u32::try_from(witnessed.pod.journal().lines().count()).unwrap();
                let moment = Moment {
                    entries: written + number % 7,
                    later: Duration::from_micros(100) * (number % 50),
                };
                moment.wait(&witnessed.pod, &mut second);
                end(second);
            }
            if !witnessed.is_over() {
                let done = attach(&case, &witnessed.pod);
                let journal = witnessed.pod.journal();
                assert!(done.status.success(), "{number}: {done:#?}\n{journal}");
            }
            witnessed.assert_succeeded(&number.to_string());
            let mut lines = witnessed.shared.lines("log");
            let journal = witnessed.pod.journal();
            assert_eq!(lines[..3], ["one", "two", "three"], "{number}\n{journal}");
            lines[3..].sort();
            assert_eq!(lines[3..], ["a", "b"], "{number}\n{journal}");
        }
        witnessed.pod.delete_force().ok();
        case.assert_nothing_left();
    }
    assert!(killed * 2 > moments, "only {killed} were killed at work");
}

#[test]
fn pause_may_be_killed_at_any_moment_and_everything_begins_again() {
    let Some(case) = Case::new(&[Need::Runp, Need::Kernel(6, 15)]) else {
        return;
    };
    let whole = a_whole_life(&case);
    let moments = moments(4);
    let mut killed = 0;
    for number in 0..moments {
        let witnessed = Witnessed::new(&case, &format!("p{number}"), "OnFailure");
        let mut supervisor = witnessed.begin(&case);
        Moment::new(number, moments, whole).wait(&witnessed.pod, &mut supervisor);
        if let Some(pause) = witnessed.pause() {
            killed += 1;
            // With its supervisor, first or last, or alone.
            if number % 4 == 1 {
                supervisor.kill().unwrap();
            }
            let pause = rustix::process::Pid::from_raw(pause).unwrap();
            let _ = rustix::process::kill_process(pause, rustix::process::Signal::KILL);
            if number % 4 == 3 {
                supervisor.kill().unwrap();
            }
        }
        supervisor.wait().unwrap();
        if !witnessed.is_over() {
            attach(&case, &witnessed.pod).ok();
        }
        witnessed.assert_succeeded(&number.to_string());
        let lines = witnessed.shared.lines("log");
        let inits = lines.iter().filter(|line| line.len() > 1);
        let inits: Vec<&str> = inits.map(String::as_str).collect();
        let (before, after) = inits.split_at(inits.len() - 3);
        let what = format!("{number}: {lines:?}\n{}", witnessed.pod.journal());
        assert_eq!(after, ["one", "two", "three"], "{what}");
        assert!(["one", "two", "three"].starts_with(before), "{what}");
        // What was written there is there in the new sandbox.
        let kept = witnessed.shared.lines("kept");
        let known = before.iter().all(|init| kept.iter().any(|k| k == init));
        assert!(known, "{kept:?} {what}");
        witnessed.pod.delete_force().ok();
        case.assert_nothing_left();
    }
    assert!(killed * 2 > moments, "only {killed} were killed");
}

#[test]
fn what_happens_while_nobody_supervises_is_not_lost() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let wait = |then: &str| {
        format!("echo before; until [ -e /shared/go ]; do sleep 0.01; done; echo after; {then}")
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "containers": [
                shared.container("code", &wait("exit 7")),
                shared.container("signal", &wait("kill -9 $$$$")),
                shared.container("stays", "trap 'exit 0' TERM; while :; do sleep 0.02; done"),
            ],
        }),
    );
    pod.run_detached();
    let ended = ["code", "signal"].map(|name| pod.until_running(name));
    pod.until_running("stays");
    process::kill(pod.supervisor());
    let lost = pod.until("nobody supervises", |pod| {
        pod["status"]["reason"] == "SupervisorLost"
    });
    assert!(is_running(&lost, "stays"));
    std::fs::write(shared.path.join("go"), "").unwrap();
    for pid in ended {
        eventually("it has ended", || (!process::runs(pid)).then_some(()));
    }
    // Any command that needs a supervisor makes one.
    pod.stop(&[]).ok();
    let status = pod.status();
    if crate::support::kernel_at_least(6, 15) {
        assert_eq!(terminated(&status, "code")["exitCode"], 7, "{status:#}");
        assert_eq!(terminated(&status, "code")["reason"], "Error");
        assert_eq!(pod.log("code"), "before\nafter\n");
        assert_eq!(terminated(&status, "stays")["exitCode"], 0);
    }
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn where_nothing_is_left_to_ask_it_is_said_that_nobody_knows() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "containers": [shared.container("app", "until [ -e /shared/go ]; do sleep 0.01; done")],
        }),
    );
    pod.run_detached();
    let app = pod.until_running("app");
    let pause = pod.pause("app");
    process::kill(pod.supervisor());
    process::kill(pause);
    std::fs::write(shared.path.join("go"), "").unwrap();
    eventually("it has ended", || (!process::runs(app)).then_some(()));
    attach(&case, &pod).code(137);
    let status = pod.status();
    let app: &Value = container_status(&status, "app");
    assert_eq!(
        app["state"]["terminated"]["reason"],
        "ContainerStatusUnknown"
    );
    pod.delete().ok();
    case.assert_nothing_left();
}
