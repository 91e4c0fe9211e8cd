//! What a pod's network is connected to: `--network`.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::net::{Cni, hear, ip, leave_the_host, server, try_hear};
use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, eventually, kernel_at_least, process, sh};

/// Where the plugins are that Debian has.
const PLUGINS: Need = Need::File("/usr/lib/cni/ptp");

/// A container that knows its pod's address.
fn knows(name: &str, script: &str) -> Value {
    let mut container = sh(name, script);
    container["env"] =
        json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    container
}

#[test]
fn cni_plugins_give_a_pod_an_address_that_everything_knows() {
    let Some(case) = Case::new(&[Need::Runp, PLUGINS]) else {
        return;
    };
    leave_the_host();
    let cni = Cni::new(&case);
    cni.network("mine", "1.0.0", json!([cni.ptp()]));
    let app = sh("app", &server("-p 80", "pod speaks"));
    let mut mute = sh("mute", "exec sleep inf");
    mute["readinessProbe"] = json!({"tcpSocket": {"port": 81}, "periodSeconds": 1});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "dnsConfig": {"searches": ["more.example"]},
            "initContainers": [knows("init", "echo $IP; cat /etc/hosts /etc/resolv.conf; ip -4 addr show eth0")],
            "containers": [app, mute],
        }),
    )
    .with(&cni.options("cni:mine"));
    let plan = pod.plan().ok().stdout;
    assert!(plan.contains("network         cni:mine (ptp)"), "{plan}");
    assert!(!cni.addresses.exists(), "a plan does nothing");
    pod.run_detached();
    pod.until_running("mute");
    let status = pod.status();
    let address = status["status"]["podIP"].as_str().unwrap();
    assert!(address.starts_with("10.98.0."), "{address}");
    assert_eq!(status["status"]["podIPs"], json!([{"ip": address}]));
    assert_eq!(status["status"]["hostIP"], "192.0.2.9");
    let log = pod.log("init");
    for line in [
        format!("{address}\n"),
        format!("{address}\t{}\n", pod.name),
        "search cni.example more.example\nnameserver 10.98.0.53\n".into(),
        format!("inet {address}/"),
    ] {
        assert!(log.contains(&line), "{line:?} is not in {log}");
    }
    assert_eq!(hear(&format!("{address}:80")), "pod speaks\n");
    // A probe goes to the pod's own address.
    let dialled = format!("dial tcp {address}:81: connect: connection refused");
    eventually("the probe", || {
        let events = case.pod(["events", &pod.name]).ok().stdout;
        events.contains(&dialled).then_some(())
    });
    assert_eq!(cni.given(), 1);
    case.pod(["prove", &pod.name]).ok();
    // What a plugin has made is taken away: CHECK sees it.
    let link = ip("-o link show type veth");
    let link = link.split([':', '@']).nth(1).unwrap().trim().to_owned();
    ip(&format!("link del {link}"));
    let proof = case.pod(["prove", &pod.name]).code(1).stdout;
    assert!(
        proof.contains("network: CNI plugin \"ptp\" of network \"mine\": CHECK: "),
        "{proof}"
    );

    pod.stop(&[]).ok();
    let status = pod.status();
    assert_eq!(
        status["status"]["podIP"], address,
        "it is told also when it is over"
    );
    assert_eq!(cni.given(), 0);
    assert_eq!(ip("-o link show type veth"), "");
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_port_of_the_host_leads_into_the_pod() {
    let Some(case) = Case::new(&[Need::Runp, PLUGINS, Need::Program("iptables")]) else {
        return;
    };
    leave_the_host();
    let cni = Cni::new(&case);
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    cni.network("mine", "1.0.0", json!([cni.ptp(), portmap]));
    let mut app = sh("app", &server("-p 80", "through the host"));
    app["ports"] = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]);
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [app]});
    let pod = Pod::new(&case, "p", spec).with(&cni.options("cni"));
    pod.run_detached();
    assert_eq!(hear("192.0.2.9:8080"), "through the host\n");
    let rules = || {
        let output = Command::new("iptables-save").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(rules().contains("--dport 8080"), "{}", rules());
    pod.delete_force().ok();
    assert!(!rules().contains("8080"), "{}", rules());
    case.assert_nothing_left();
}

#[test]
fn a_plugin_that_fails_is_named_and_what_was_made_is_undone() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    leave_the_host();
    let cni = Cni::new(&case);
    let stop = case.dir().join("now-it-works");
    cni.plugin("first", "[ $CNI_COMMAND = DEL ] || echo \"$RESULT\"");
    cni.plugin(
        "second",
        &format!(
            "[ $CNI_COMMAND != ADD ] || [ -e {} ] && {{ echo \"$RESULT\"; exit; }}\n\
             echo '{{\"cniVersion\": \"1.0.0\", \"code\": 7, \"msg\": \"no more\", \"details\": \"cables\"}}'; exit 1",
            stop.display()
        ),
    );
    let capable = json!({"type": "second", "capabilities": {"portMappings": true, "bandwidth": true}, "own": 1});
    cni.network("mine", "1.0.0", json!([{"type": "first"}, capable]));
    let mut app = knows("app", "echo $IP; exec sleep inf");
    app["ports"] =
        json!([{"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "127.0.0.1"}]);
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [app]});
    let pod = Pod::new(&case, "p", spec).with(&cni.options("cni:mine"));
    pod.run_detached();
    let status = pod.until("the network is in the way", |pod| {
        container_status(pod, "app")["state"]
            .to_string()
            .contains("no more")
    });
    let message = &container_status(&status, "app")["state"]["waiting"]["message"];
    let expected = "network cni:mine (first, second): CNI plugin \"second\" of network \"mine\": ADD: no more; cables (code 7)";
    assert_eq!(message, expected);
    let calls = cni.calls();
    assert_eq!(
        calls[..4],
        ["first ADD", "second ADD", "second DEL", "first DEL"],
        "{calls:?}"
    );
    fs::write(&stop, "").unwrap();
    pod.until_running("app");
    assert_eq!(pod.log("app"), "10.97.0.2\n");
    let text = fs::read_to_string(&cni.log).unwrap();
    let uid = pod.status()["metadata"]["uid"].as_str().unwrap().to_owned();
    for part in [
        format!("first ADD {uid} eth0 nsfs IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};", pod.name),
        r#""runtimeConfig":{"portMappings":[{"containerPort":53,"hostIP":"127.0.0.1","hostPort":5353,"protocol":"udp"}]}"#.into(),
        r#""prevResult":{"#.into(),
        r#""own":1"#.into(),
    ] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
    let of_first = text.lines().find(|line| line.starts_with("first")).unwrap();
    assert!(!of_first.contains("runtimeConfig") && !of_first.contains("prevResult"));
    pod.delete_force().ok();
    assert_eq!(cni.calls().last().unwrap(), "first DEL");
}

#[test]
fn the_network_is_undone_also_after_the_supervisor_was_killed() {
    let Some(case) = Case::new(&[Need::Runp, PLUGINS]) else {
        return;
    };
    leave_the_host();
    let cni = Cni::new(&case);
    cni.plugin(
        "note",
        "grep -q . <<E\n$CONFIG\nE\n[ $CNI_COMMAND != ADD ] || sleep ${HOLD:-0}\necho \"$RESULT\"",
    );
    cni.network("mine", "1.0.0", json!([cni.ptp()]));
    let app = || knows("app", "echo $IP; exec sleep inf");
    let spec = || json!({"terminationGracePeriodSeconds": 0, "containers": [app()]});

    let pod = Pod::new(&case, "ran", spec()).with(&cni.options("cni:mine"));
    pod.run_detached();
    pod.until_running("app");
    process::kill(pod.supervisor());
    // It is taken over, and is as it was.
    assert_eq!(cni.given(), 1);
    pod.stop(&[]).ok();
    assert_eq!(cni.given(), 0);
    pod.delete().ok();

    let pod = Pod::new(&case, "gone", spec()).with(&cni.options("cni:mine"));
    pod.run_detached();
    pod.until_running("app");
    process::kill(pod.supervisor());
    pod.delete_force().ok();
    assert_eq!(cni.given(), 0);
    assert_eq!(ip("-o link show type veth"), "");

    // In the middle of it.
    cni.plugin("slow", "[ $CNI_COMMAND != ADD ] || { [ -e \"$0.go\" ] || { touch \"$0.at\"; sleep 1000; }; }\n[ $CNI_COMMAND = DEL ] || echo \"$RESULT\"");
    cni.network("slow", "1.0.0", json!([cni.ptp(), {"type": "slow"}]));
    let bin = cni.plugins.split(':').next().unwrap().to_owned();
    for go_on in [false, true] {
        let at = format!("{bin}/slow.at");
        let _ = fs::remove_file(&at);
        let pod = Pod::new(&case, &format!("slow{go_on}"), spec()).with(&cni.options("cni:slow"));
        let mut command = case.pod_runtime();
        command.args(["run", "--quiet", "--name", &pod.name]);
        command.args(cni.options("cni:slow")).arg(&pod.dir);
        let mut supervisor = command.spawn().unwrap();
        eventually("the plugin is at work", || {
            fs::exists(&at).unwrap().then_some(())
        });
        process::kill(supervisor.id() as i32);
        supervisor.wait().unwrap();
        assert_eq!(cni.given(), 1);
        if go_on {
            fs::write(format!("{bin}/slow.go"), "").unwrap();
            let next = case.begin({
                let mut command = case.pod_runtime();
                command.args(["attach", "--supervise", "--quiet", &pod.name]);
                command
            });
            pod.until_running("app");
            assert_eq!(pod.log("app"), "10.97.0.2\n");
            assert_eq!(cni.given(), 1, "the first one was given back");
            pod.stop(&[]).ok();
            next.end();
            pod.delete().ok();
        } else {
            pod.delete_force().ok();
        }
        assert_eq!(cni.given(), 0);
    }
    case.assert_nothing_left();
}

#[test]
fn a_sandbox_that_is_made_anew_gets_a_network_anew() {
    let Some(case) = Case::new(&[Need::Runp, PLUGINS]) else {
        return;
    };
    leave_the_host();
    let cni = Cni::new(&case);
    cni.network("mine", "0.3.1", json!([cni.ptp()]));
    let spec = json!({
        "terminationGracePeriodSeconds": 0, "hostUsers": !kernel_at_least(6, 3),
        "initContainers": [knows("init", "echo $IP")], "containers": [knows("app", "echo $IP; exec sleep inf")],
    });
    let pod = Pod::new(&case, "p", spec).with(&cni.options("cni:mine"));
    pod.run_detached();
    let pause = pod.pause("app");
    let first = pod.status()["status"]["podIP"].clone();
    process::kill(pause);
    let status = pod.until("it has another address", |pod| {
        let again = &pod["status"]["podIP"];
        again.is_string() && *again != first && container_status(pod, "app")["restartCount"] == 1
    });
    let second = status["status"]["podIP"].as_str().unwrap();
    pod.until_running("app");
    assert_eq!(pod.log("app"), format!("{second}\n"));
    assert_eq!(pod.log("init"), format!("{second}\n"));
    assert_eq!(cni.given(), 1);
    pod.delete_force().ok();
    assert_eq!(cni.given(), 0);
}

#[test]
fn a_pod_joins_the_network_that_somebody_has_made() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    leave_the_host();
    let mut holder = Command::new("unshare");
    let mut holder = holder.args(["--net", "sleep", "300"]).spawn().unwrap();
    let pid = holder.id() as i32;
    let netns = format!("/proc/{pid}/ns/net");
    let own = process::namespace(rustix::thread::gettid().as_raw_nonzero().get(), "net");
    eventually("it has its network", || {
        (process::namespace(pid, "net") != own).then_some(())
    });
    let inside = |command: &str| {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net={netns}")).args(["ip"]);
        assert!(
            nsenter.args(command.split(' ')).status().unwrap().success(),
            "{command}"
        );
    };
    inside("link add there type bridge");
    inside("addr add 10.96.0.7/24 dev there");
    let spec = json!({"restartPolicy": "Never", "containers": [knows("app", "echo $IP; ip -o link; hostname")]});
    let option = format!("path:{netns}");
    let pod = Pod::new(&case, "p", spec).with(&["--network", &option]);
    pod.run().ok();
    let log = pod.log("app");
    assert!(
        log.starts_with("10.96.0.7\n") && log.contains(" there:"),
        "{log}"
    );
    assert!(
        log.ends_with(&format!("{}\n", pod.name)),
        "a host name of its own: {log}"
    );
    // It is not the pod's: `lo` is as it was, down, and it stays.
    assert!(!log.contains("lo: <LOOPBACK,UP"), "{log}");
    assert!(process::runs(pid));
    assert_eq!(pod.status()["status"]["podIP"], "10.96.0.7");
    pod.delete().ok();

    let spec = json!({"hostUsers": false, "containers": [sh("app", "true")]});
    let pod = Pod::new(&case, "u", spec).with(&["--network", &option]);
    let error = pod.run().fails();
    assert!(
        error.contains("spec.hostUsers: false, with --network path:/proc/"),
        "{error}"
    );
    assert!(!pod.state_dir().exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn pasta_connects_a_pod_without_any_set_up() {
    let Some(case) = Case::new(&[
        Need::Runp,
        Need::Program("pasta"),
        Need::File("/dev/net/tun"),
    ]) else {
        return;
    };
    leave_the_host();
    ip("addr add 192.0.2.33/24 dev up0");
    let listener = std::net::TcpListener::bind("192.0.2.33:7000").unwrap();
    let said = std::thread::spawn(move || {
        use std::io::{BufRead as _, BufReader};
        let mut line = String::new();
        let stream = listener.accept().unwrap().0;
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    });
    for (number, users) in [true, !kernel_at_least(6, 3)].into_iter().enumerate() {
        let mut app = knows(
            "app",
            &format!(
                "echo $IP; (echo out | nc -w 1 192.0.2.33 7000) & {}",
                server("-p 80", "through pasta")
            ),
        );
        app["ports"] = json!([{"containerPort": 80, "hostPort": 8081}, {"containerPort": 80, "hostPort": 8082, "hostIP": "127.0.0.1"}]);
        let spec =
            json!({"terminationGracePeriodSeconds": 0, "hostUsers": users, "containers": [app]});
        let pod = Pod::new(&case, &format!("p{number}"), spec).with(&["--network", "pasta"]);
        pod.run_detached();
        assert_eq!(hear("192.0.2.9:8081"), "through pasta\n");
        assert_eq!(hear("127.0.0.1:8082"), "through pasta\n");
        assert!(try_hear("192.0.2.9:8082".parse().unwrap()).is_none());
        assert_eq!(pod.log("app").lines().next(), Some("192.0.2.9"));
        process::kill(pod.supervisor());
        pod.delete_force().ok();
        assert!(try_hear("192.0.2.9:8081".parse().unwrap()).is_none());
        case.assert_nothing_left();
    }
    assert_eq!(said.join().unwrap(), "out\n");

    let taken = std::net::TcpListener::bind("0.0.0.0:8083").unwrap();
    let mut app = sh("app", "true");
    app["ports"] = json!([{"containerPort": 80, "hostPort": 8083}]);
    let pod = Pod::new(&case, "taken", json!({"containers": [app]})).with(&["--network", "pasta"]);
    pod.run_detached();
    pod.until("the port is in the way", |pod| {
        let state = container_status(pod, "app")["state"].to_string();
        state.contains("through pasta: pasta ended") && state.contains("8083")
    });
    pod.delete_force().ok();
    drop(taken);
}

#[test]
fn what_cannot_be_is_said_before_anything_exists() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let cni = Cni::new(&case);
    cni.plugin("plain", "");
    cni.network("plain", "1.0.0", json!([{"type": "plain"}]));
    let mut app = sh("app", "true");
    app["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
    let with_port = json!({"containers": [app]});
    let hosts = json!({"hostNetwork": true, "containers": [sh("app", "true")]});
    let plain = json!({"containers": [sh("app", "true")]});
    let cases = [
        (
            &with_port,
            "none",
            "spec.containers[0].ports[0].hostPort: no port of the host leads into a network that is just a loopback",
        ),
        (
            &with_port,
            "cni:plain",
            "the CNI network \"plain\" has no plugin with the capability portMappings",
        ),
        (
            &hosts,
            "cni:plain",
            "spec.hostNetwork: not together with another network: cni:plain (plain)",
        ),
        (
            &hosts,
            "none",
            "spec.hostNetwork: not together with another network: loopback only",
        ),
        (
            &with_port,
            "host",
            "hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` is true",
        ),
        (&plain, "cni:x", "CNI network \"x\": there is none in "),
        (
            &plain,
            "path:/nosuch",
            "--network path:/nosuch: open /nosuch: ENOENT",
        ),
        (
            &plain,
            "path:/proc/self/ns/net",
            "it is the host's own (--network host)",
        ),
        (
            &plain,
            "bridge",
            "none, host, path:FILE, cni, cni:NAME or pasta is wanted",
        ),
    ];
    for (number, (spec, network, expected)) in cases.into_iter().enumerate() {
        let pod = Pod::new(&case, &format!("p{number}"), spec.clone()).with(&cni.options(network));
        let error = pod.run().fails();
        assert!(error.contains(expected), "{network}: {error}");
        assert!(!pod.state_dir().exists());
    }
    let pod = Pod::new(&case, "h", plain).with(&["--network", "host"]);
    let plan = pod.plan().ok().stdout;
    assert!(
        plan.contains("of the host     network, uts, user"),
        "{plan}"
    );
}
