//! The tools that tell of a pod, and that set it going again.

use serde_json::{Value, json};

use crate::support::pod::{container_status, is_running};
use crate::support::{Case, Need, Pod, Shared, eventually, process, sh};

#[test]
fn events_tell_what_happened_in_kubernetes_words() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "containers": [sh("app", "exit 3")]}),
    );
    pod.run().code(3);
    let table = case.pod(["events", &pod.name]).ok().stdout;
    for reason in ["SandboxStarted", "Started", "Error"] {
        assert!(table.contains(reason), "{table}");
    }
    let list = case
        .pod(["events", "-o", "json", "--warnings", &pod.name])
        .ok();
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list:#}");
    let event = &list["items"][0];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{app}");
    // Of a pod that is over, following ends at once.
    let lines = case
        .pod(["events", "-f", "-o", "json", &pod.name])
        .ok()
        .stdout;
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["reason"], "SandboxStopped");
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn wait_returns_when_it_is_so_and_not_before() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let until = "until [ -e /shared/go ]; do sleep 0.01; done";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "volumes": [shared.volume()],
            "initContainers": [shared.container("init", until)],
            "containers": [shared.container("app", "until [ -e /shared/end ]; do sleep 0.01; done")],
        }),
    );
    pod.run_detached();
    let wait = |what: &str, timeout: &str| {
        case.pod(["wait", "--for", what, "--timeout", timeout, &pod.name])
    };
    assert!(wait("condition=Ready", "0").fails().contains("timed out"));
    wait("condition=Initialized=False", "5").ok();
    std::fs::write(shared.path.join("go"), "").unwrap();
    wait("condition=Ready", "20").ok();
    std::fs::write(shared.path.join("end"), "").unwrap();
    wait("phase=Succeeded", "20").ok();
    wait("end", "20").ok();
    let error = wait("condition=Ready", "20").fails();
    assert!(error.contains("Succeeded"), "it will never be so: {error}");
    pod.delete().ok();
    wait("delete", "0").ok();
    case.assert_nothing_left();
}

#[test]
fn logs_of_all_containers_say_whose_each_line_is() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "initContainers": [sh("init", "echo one; echo two")],
            "containers": [sh("a", "echo three"), sh("silent", "true")],
        }),
    );
    pod.run().ok();
    let name = &pod.name;
    let all = case.pod(["logs", "--all-containers", name]).ok().stdout;
    assert_eq!(
        all,
        format!("[pod/{name}/init] one\n[pod/{name}/init] two\n[pod/{name}/a] three\n")
    );
    let followed = case
        .pod(["logs", "--all-containers", "-f", name])
        .ok()
        .stdout;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&followed), sorted(&all));
    assert_eq!(
        pod.logs("init", &["--since", "3600", "--tail", "1"])
            .ok()
            .stdout,
        "two\n"
    );
    assert_eq!(pod.logs("init", &["--since", "0"]).ok().stdout, "");
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn rerun_begins_at_the_chosen_init_and_keeps_the_sandbox() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let log = |name: &str| shared.container(name, &format!("echo {name} >> /shared/log"));
    let app = "echo app >> /shared/log; trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume()],
            "initContainers": [log("one"), log("two")],
            "containers": [shared.container("app", app)],
        }),
    );
    pod.run_detached();
    let pause = pod.pause("app");
    let lines = |expected: &[&str]| {
        eventually(&format!("{expected:?}"), || {
            (shared.lines("log") == expected).then_some(())
        });
    };
    lines(&["one", "two", "app"]);
    case.pod(["rerun", "--from", "two", &pod.name]).ok();
    lines(&["one", "two", "app", "two", "app"]);
    case.pod(["restart", &pod.name]).ok();
    lines(&["one", "two", "app", "two", "app", "one", "two", "app"]);
    let status = pod.until("it runs", |pod| is_running(pod, "app"));
    assert_eq!(container_status(&status, "one")["restartCount"], 1);
    assert_eq!(container_status(&status, "app")["restartCount"], 2);
    assert_eq!(pod.pause("app"), pause);
    pod.stop(&[]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn what_failed_can_be_tried_again_at_once() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "OnFailure",
            "volumes": [shared.volume()],
            "initContainers": [shared.container("init", "[ -e /shared/go ]")],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run_detached();
    pod.until("it waits", |pod| {
        container_status(pod, "init")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    std::fs::write(shared.path.join("go"), "").unwrap();
    case.pod(["rerun", "--only-failed", &pod.name]).ok();
    case.pod([
        "wait",
        "--for",
        "phase=Succeeded",
        "--timeout",
        "8",
        &pod.name,
    ])
    .ok();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn the_timeline_is_a_page_of_its_own_and_a_trace() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut side = sh("side", "exec sleep 1000");
    side["restartPolicy"] = json!("Always");
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "initContainers": [sh("init", "true"), side],
            "containers": [{"name": "app", "command": ["sh", "-c", "echo '<script src=http://example.com>' > /dev/termination-log; exit 3"]}],
        }),
    );
    pod.run().code(3);
    let (html, trace) = (case.dir().join("t.html"), case.dir().join("t.json"));
    case.pod([
        "timeline",
        "--html",
        html.to_str().unwrap(),
        "--trace",
        trace.to_str().unwrap(),
        &pod.name,
    ])
    .ok();
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<svg") && page.contains("default-src 'none'"));
    assert!(page.contains("&lt;script src=http"), "escaped");
    assert!(!page.contains("<script"), "nothing runs");
    let trace: Value = serde_json::from_slice(&std::fs::read(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let names: Vec<&str> = events.iter().filter_map(|e| e["name"].as_str()).collect();
    for name in ["init runs", "side runs", "app runs", "exit 3"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn prove_agrees_with_the_plan_and_tells_what_was_slipped_in() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut init = sh("init", "echo secret > /s/secret");
    init["volumeMounts"] = json!([{"name": "s", "mountPath": "/s"}]);
    let mut app = sh("app", "exec sleep 1000");
    app["volumeMounts"] = json!([{"name": "d", "mountPath": "/d"}]);
    app["securityContext"] = json!({"runAsUser": 1000, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "s", "emptyDir": {"medium": "Memory"}}, {"name": "d", "emptyDir": {}}],
            "initContainers": [init],
            "containers": [app, sh("other", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let pid = pod.until_running("app");
    pod.until_running("other");
    let proof = case.pod(["prove", "-o", "json", &pod.name]).ok().stdout;
    let proof: Value = serde_json::from_str(&proof).unwrap();
    let of = |name: &str| {
        let mut all = proof["processes"].as_array().unwrap().iter();
        all.find(|p| p["name"] == name).unwrap()
    };
    assert_eq!(of("app")["uid"], 1000);
    assert_eq!(of("app")["bounding"], json!([]));
    assert_eq!(of("app")["volumes"]["d"], json!(["/d"]));
    assert!(of("app")["volumes"]["s"].is_null() && of("other")["volumes"]["s"].is_null());
    assert_eq!(
        of("app")["namespaces"]["net"],
        of("pause")["namespaces"]["net"]
    );
    assert_eq!(proof["notRunning"], json!(["init"]));
    let table = case.pod(["prove", &pod.name]).ok().stdout;
    assert!(table.ends_with("all as planned\n"), "{table}");

    // Somebody binds the secret volume into the app's mount namespace.
    let secret = case
        .data_root()
        .join("pods")
        .join(&pod.name)
        .join("volumes/s");
    process::bind_into(pid, &secret, "/opt");
    let done = case.pod(["prove", &pod.name]).code(1);
    let contradiction = "app: it reaches volume \"s\" at [\"/opt\"], which was not planned";
    assert!(done.stdout.contains(contradiction), "{}", done.stdout);
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn top_and_cp_and_port_forward_reach_into_a_pod() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let serve = "while :; do nc -l -p 80 -e sh -c 'read x; echo pong'; done";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("app", &format!("mkdir /tmp/d; echo inside > /tmp/d/f; ln -s /etc/passwd /tmp/d/l; {serve}"))],
        }),
    );
    pod.run_detached();
    pod.until_running("app");
    let top = case
        .pod(["top", "--interval", "0.1", "-o", "json", &pod.name])
        .ok()
        .stdout;
    let top: Value = serde_json::from_str(&top).unwrap();
    assert!(
        top["containers"][0]["memory"].as_u64().unwrap() > 0,
        "{top:#}"
    );

    let here = case.dir().join("here");
    std::fs::create_dir(&here).unwrap();
    let there = |path: &str| format!("{}:{path}", pod.name);
    eventually("the files are there", || {
        pod.exec("app", &["ls", "/tmp/d/l"])
            .status
            .success()
            .then_some(())
    });
    case.pod(["cp", &there("/tmp/d"), here.to_str().unwrap()])
        .ok();
    assert_eq!(
        std::fs::read_to_string(here.join("d/f")).unwrap(),
        "inside\n"
    );
    let link = std::fs::read_link(here.join("d/l")).unwrap();
    assert_eq!(link.to_str(), Some("/etc/passwd"), "copied as a link");
    std::fs::write(here.join("out"), "outside\n").unwrap();
    let out = here.join("out");
    // A link in the container leads nowhere but into the container.
    pod.exec("app", &["ln", "-s", here.to_str().unwrap(), "/trap"])
        .ok();
    case.pod(["cp", out.to_str().unwrap(), &there("/trap/x")])
        .fails();
    assert!(!here.join("x").exists());
    case.pod(["cp", out.to_str().unwrap(), &there("/tmp/")])
        .ok();
    assert_eq!(
        pod.exec("app", &["cat", "/tmp/out"]).ok().stdout,
        "outside\n"
    );

    let mut command = case.pod_runtime();
    command
        .args(["port-forward", &pod.name, ":80"])
        .stdout(std::process::Stdio::piped());
    let mut forward = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(forward.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let address = line.split(' ').nth(2).unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, b"ping\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert_eq!(answer, "pong\n");
    crate::support::process::kill(forward.id() as i32);
    forward.wait().unwrap();
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn debug_shows_what_a_failed_init_container_left_behind() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut init = sh(
        "init",
        "echo clue > /opt/clue; echo shared > /v/file; exit 3",
    );
    init["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    init["env"] = json!([{"name": "WHERE", "value": "here"}]);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [init],
            "containers": [sh("app", "true")],
        }),
    );
    pod.run_detached();
    pod.until("it waits", |pod| {
        container_status(pod, "init")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let debug = |container: &str, script: &str| {
        case.pod([
            "debug", &pod.name, "-c", container, "--", "sh", "-c", script,
        ])
    };
    let seen = debug("init", "cat /opt/clue /v/file; echo $WHERE; exit 7")
        .code(7)
        .stdout;
    assert_eq!(seen, "clue\nshared\nhere\n");
    let again = debug("init", "cat /opt/clue").ok().stdout;
    assert_eq!(again, "clue\n");
    assert!(debug("app", "true").fails().contains("has never run"));
    pod.stop(&[]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_pod_without_probes_wakes_nobody_up() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut side = sh("side", "exec sleep 1000");
    side["restartPolicy"] = json!("Always");
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "initContainers": [side],
            "containers": [sh("app", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    pod.until_running("app");
    let supervisor = pod.supervisor();
    let woken = || process::status(supervisor, "voluntary_ctxt_switches");
    // It makes the next root and the like after its answer; a second later it gives back what only that has needed.
    let quiet = eventually("it rests", || {
        let before = woken();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        (woken() == before).then_some(before)
    });
    let memory = process::memory(supervisor);
    assert!((1..=1536).contains(&memory.proportional), "{memory:?}");
    assert!((1..=512).contains(&memory.own), "{memory:?}");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(woken(), quiet, "it woke up for nothing");
    pod.delete_force().ok();
}
