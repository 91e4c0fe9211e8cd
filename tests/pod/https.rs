//! Probes and hooks over HTTPS, against OpenSSL's server.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, Shared, eventually, sh};

const OPENSSL: &str = "/usr/bin/openssl";

/// A pod's containers that have OpenSSL of this machine, and a key of each kind with a certificate that nobody knows.
struct Servers {
    shared: Shared,
}

impl Servers {
    fn new(case: &Case) -> Self {
        let shared = Shared::new(case);
        for (kind, parameters) in [
            ("rsa", &["-newkey", "rsa:2048"][..]),
            (
                "ec",
                &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            ),
        ] {
            let file = |ending: &str| shared.path.join(format!("{kind}.{ending}"));
            let made = Command::new(OPENSSL)
                .args([
                    "req",
                    "-x509",
                    "-nodes",
                    "-subj",
                    "/CN=nobody",
                    "-days",
                    "1",
                ])
                .args(parameters)
                .arg("-keyout")
                .arg(file("key"))
                .arg("-out")
                .arg(file("pem"))
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        Self { shared }
    }

    fn volumes(&self) -> Value {
        let host = |name: &str| json!({"name": name, "hostPath": {"path": format!("/{name}")}});
        json!([
            self.shared.volume(),
            host("usr"),
            host("lib"),
            host("lib64")
        ])
    }

    /// Serves on this port, with a key of this kind.
    fn openssl(&self, name: &str, port: u16, kind: &str, options: &str) -> Value {
        let script = format!(
            "exec {OPENSSL} s_server -accept {port} -www -cert /shared/{kind}.pem -key /shared/{kind}.key {options} >&2"
        );
        let mut container = self.shared.container(name, &script);
        let mounts = container["volumeMounts"].as_array_mut().unwrap();
        for dir in ["usr", "lib", "lib64"] {
            mounts.push(json!({"name": dir, "mountPath": format!("/{dir}"), "readOnly": true}));
        }
        container["env"] = json!([{"name": "OPENSSL_CONF", "value": "/dev/null"}]);
        container
    }
}

/// A server without TLS, of one answer, which logs what it is asked.
fn plain(name: &str, port: u16, answer: &str) -> Value {
    sh(
        name,
        &format!(
            "printf '{answer}' > /answer; exec nc -ll -p {port} -e sh -c 'head -n 1 >&2; cat /answer; sleep 0.3'"
        ),
    )
}

fn probed(mut container: Value, scheme: &str, port: u16) -> Value {
    let get = json!({"port": port, "scheme": scheme, "path": "/x"});
    container["readinessProbe"] = json!({"httpGet": get, "periodSeconds": 1});
    container
}

#[test]
fn a_probe_over_https_believes_whoever_answers() {
    let Some(case) = Case::new(&[Need::Runp, Need::Program(OPENSSL)]) else {
        return;
    };
    let servers = Servers::new(&case);
    let server = |name: &str, port: u16, kind: &str, options: &str| {
        probed(servers.openssl(name, port, kind, options), "HTTPS", port)
    };
    let small = "-cipher ECDHE-RSA-AES256-GCM-SHA384 -groups P-256";
    let moved =
        "HTTP/1.1 302 No\\r\\nLocation: https://127.0.0.1:81/\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let well = "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let ready = [
        server("new", 81, "rsa", "-tls1_3"),
        server("new-ec", 82, "ec", "-tls1_3 -groups P-384"),
        server("old", 83, "rsa", &format!("-tls1_2 {small}")),
        server("old-ec", 84, "ec", "-tls1_2"),
        probed(plain("moved", 85, moved), "HTTP", 85),
    ];
    let expected = [
        (
            server("ancient", 86, "rsa", "-tls1_1 -cipher DEFAULT@SECLEVEL=0"),
            "tls: ",
        ),
        (
            probed(plain("plain", 87, well), "HTTPS", 87),
            "Get \\\"https://127.0.0.1:87/x\\\": http: server gave HTTP response to HTTPS client",
        ),
        (
            probed(sh("mute", "exec nc -ll -p 88 -e sleep 1000"), "HTTPS", 88),
            "Get \\\"https://127.0.0.1:88/x\\\": context deadline exceeded",
        ),
        (
            probed(sh("rude", "exec nc -ll -p 89 -e head -c 1"), "HTTPS", 89),
            "Get \\\"https://127.0.0.1:89/x\\\": EOF",
        ),
        (
            probed(plain("mistaken", 90, "\\1\\2\\3\\4\\5\\6\\7"), "HTTPS", 90),
            "Get \\\"https://127.0.0.1:90/x\\\": tls: ",
        ),
    ];
    let names: Vec<&str> = ready.iter().map(|c| c["name"].as_str().unwrap()).collect();
    let failing = expected.iter().map(|(container, _)| container);
    let containers: Vec<&Value> = ready.iter().chain(failing).collect();
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "volumes": servers.volumes(),
            "containers": containers,
        }),
    );
    pod.run_detached();
    for (container, message) in &expected {
        eventually(&format!("{}: {message}", container["name"]), || {
            pod.journal().contains(message).then_some(())
        });
    }
    let status = pod.until("all others are ready", |pod| {
        names
            .iter()
            .all(|name| container_status(pod, name)["ready"] == true)
    });
    for (container, _) in &expected {
        let name = container["name"].as_str().unwrap();
        assert_eq!(container_status(&status, name)["ready"], false, "{name}");
    }
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_hook_over_https_is_content_without_tls() {
    let Some(case) = Case::new(&[Need::Runp, Need::Program(OPENSSL)]) else {
        return;
    };
    let servers = Servers::new(&case);
    let sidecar = |mut container: Value, port: u16| {
        container["restartPolicy"] = json!("Always");
        container["startupProbe"] = json!({"tcpSocket": {"port": port}, "periodSeconds": 1});
        container
    };
    let asks = |name: &str, port: u16| {
        let mut container = sh(name, "exec sleep 1000");
        let get = json!({"port": port, "scheme": "HTTPS", "path": format!("/{name}")});
        container["lifecycle"] = json!({"postStart": {"httpGet": get}});
        container
    };
    // What it says does not matter, only that it says something.
    let no = "HTTP/1.1 500 No\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "volumes": servers.volumes(),
            "initContainers": [
                sidecar(servers.openssl("tls", 81, "rsa", ""), 81),
                sidecar(plain("plain", 82, no), 82),
            ],
            "containers": [asks("one", 81), asks("two", 82)],
        }),
    );
    pod.run_detached();
    let status = pod.until("the hooks have ended", |pod| {
        ["one", "two"]
            .iter()
            .all(|name| container_status(pod, name)["ready"] == true)
    });
    for name in ["one", "two"] {
        assert_eq!(container_status(&status, name)["restartCount"], 0, "{name}");
    }
    eventually("it was asked in clear", || {
        pod.log("plain").contains("GET /two HTTP/1.1").then_some(())
    });
    pod.delete_force().ok();
    case.assert_nothing_left();
}
