//! Restart policies and rules of single containers, back-off, and the time that a pod has.

use serde_json::{Value, json};

use crate::support::pod::{condition, container_status, terminated};
use crate::support::{Case, Need, Pod, Shared, sh};

fn with(mut container: Value, policy: &str, rules: Value) -> Value {
    container["restartPolicy"] = json!(policy);
    container["restartPolicyRules"] = rules;
    container
}

fn rule(action: &str, operator: &str, values: &[i32]) -> Value {
    json!([{"action": action, "exitCodes": {"operator": operator, "values": values}}])
}

#[test]
fn a_containers_own_policy_goes_before_the_pods() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Always",
            "initContainers": [{"name": "init", "restartPolicy": "Never", "command": ["sh", "-c", "exit 7"]}],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run().code(7);
    let status = pod.status();
    assert_eq!(status["status"]["phase"], "Failed");
    assert_eq!(container_status(&status, "init")["restartCount"], 0);
    pod.delete().ok();

    let pod = Pod::new(
        &case,
        "q",
        json!({
            "restartPolicy": "Always",
            "containers": [
                {"name": "a", "restartPolicy": "Never", "command": ["true"]},
                {"name": "b", "restartPolicy": "OnFailure", "command": ["true"]},
            ],
        }),
    );
    pod.run().ok();
    assert_eq!(pod.status()["status"]["phase"], "Succeeded");
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn the_first_rule_that_fits_the_exit_code_decides() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let script = "echo x >> /shared/log; n=$(wc -l < /shared/log); [ $n = 1 ] && exit 42; exit 3";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "containers": [with(shared.container("app", script), "Never", rule("Restart", "In", &[42]))],
        }),
    );
    pod.run().code(3);
    let status = pod.status();
    let app = container_status(&status, "app");
    assert_eq!(app["restartCount"], 1);
    assert_eq!(app["lastState"]["terminated"]["exitCode"], 42);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn restart_all_containers_runs_the_inits_again_in_the_same_sandbox() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let log = |line: &str| format!("echo {line} $(readlink /proc/self/ns/net) >> /shared/log");
    let script = format!(
        "{}; n=$(cat /shared/log | wc -l); [ $n = 3 ] && exit 88; exit 0",
        log("app")
    );
    let mut other = shared.container(
        "other",
        "trap 'echo asked >> /shared/log' TERM; exec sleep 1000",
    );
    other["lifecycle"] =
        json!({"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /shared/log"]}}});
    other["restartPolicy"] = json!("Always");
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "volumes": [shared.volume()],
            "initContainers": [shared.container("one", &log("one")), shared.container("two", &log("two")), other],
            "containers": [with(shared.container("app", &script), "Never", rule("RestartAllContainers", "NotIn", &[0]))],
        }),
    );
    pod.run().ok();
    let lines = shared.lines("log");
    let names: Vec<&str> = lines.iter().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        ["one", "two", "app", "one", "two", "app"],
        "no hook, nobody asked"
    );
    let nets: Vec<&str> = lines.iter().map(|l| l.split(' ').nth(1).unwrap()).collect();
    assert!(
        nets.iter().all(|net| *net == nets[0]),
        "another sandbox: {lines:?}"
    );
    let status = pod.status();
    assert_eq!(container_status(&status, "one")["restartCount"], 1);
    assert_eq!(
        condition(&status, "AllContainersRestarting")["status"],
        "False"
    );
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn the_longest_back_off_can_be_chosen() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let script = "echo x >> /shared/log; [ $(wc -l < /shared/log) = 4 ]";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "OnFailure",
            "volumes": [shared.volume()],
            "containers": [shared.container("app", script)],
        }),
    );
    let began = std::time::Instant::now();
    let dir = pod.dir.to_str().unwrap();
    case.pod([
        "run",
        "--max-container-restart-period",
        "1",
        "--name",
        &pod.name,
        dir,
    ])
    .ok();
    let took = began.elapsed().as_secs_f32();
    // By default it would wait for 0, 10 and 20 s.
    assert!(
        (2.0..20.0).contains(&took),
        "0 + 1 + 1 s, and it took {took}"
    );
    assert_eq!(container_status(&pod.status(), "app")["restartCount"], 3);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_pod_has_as_much_time_as_it_says() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "activeDeadlineSeconds": 1,
            "terminationGracePeriodSeconds": 5,
            "initContainers": [sh("init", "trap 'exit 0' TERM; while :; do sleep 0.02; done")],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run().code(137);
    let status = pod.status();
    let status = &status["status"];
    assert_eq!(status["phase"], "Failed");
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert_eq!(
        status["message"],
        "Pod was active on the node longer than the specified deadline"
    );
    assert_eq!(terminated(&pod.status(), "init")["exitCode"], 0);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn what_a_container_leaves_in_its_termination_message_is_told() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut elsewhere = sh("elsewhere", "echo elsewhere > /opt/why; exit 3");
    elsewhere["terminationMessagePath"] = json!("/opt/why");
    elsewhere["securityContext"] = json!({"runAsUser": 1000, "readOnlyRootFilesystem": true});
    let mut from_log = sh("log", "echo first; echo last words; exit 4");
    from_log["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "containers": [
                sh("default", "echo default > /dev/termination-log"),
                elsewhere,
                from_log,
                sh("nothing", "echo nothing"),
            ],
        }),
    );
    pod.run().fails();
    let status = pod.status();
    let message = |name: &str| terminated(&status, name)["message"].clone();
    assert_eq!(message("default"), "default\n");
    assert_eq!(message("elsewhere"), "elsewhere\n");
    assert_eq!(message("log"), "first\nlast words\n");
    assert_eq!(message("nothing"), Value::Null);
    pod.delete().ok();
    case.assert_nothing_left();
}
