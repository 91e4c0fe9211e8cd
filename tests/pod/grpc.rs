//! gRPC probes against a real server: gRPC's own, in Debian's python3-grpcio.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, eventually, sh};

/// `grpc.health.v1.Health` of the service "" (well) and "db" (not), on a free port that it prints.
const SERVER: &str = r#"
import grpc, sys
from concurrent import futures
def check(request, context):
    if request == b"":
        return b"\x08\x01"
    if request == b"\x0a\x02db":
        return b"\x08\x02"
    context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
health = grpc.method_handlers_generic_handler(
    "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)})
class Broken(grpc.GenericRpcHandler):
    def service(self, details): return None
def serve(handler):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    return server, port
good, port = serve(health)
none, other = serve(Broken())
print(port, other, file=open(sys.argv[1], "w"), flush=True)
sys.stdin.read()
"#;

/// Ends with what it reads from.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_probe_understands_a_real_server() {
    let Some(case) = Case::new(&[Need::Runp, Need::Program("/usr/bin/python3")]) else {
        return;
    };
    let ports = case.dir().join("ports");
    let server = Command::new("/usr/bin/python3")
        .args(["-c", SERVER])
        .arg(&ports)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let server = Server(server);
    let ports = eventually("it serves (see python3-grpcio)", || {
        fs::read_to_string(&ports)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    let (healthy, silent) = ports.trim().split_once(' ').unwrap();
    let probed = |name: &str, port: &str, service: &str| {
        let mut container = sh(name, "exec sleep 1000");
        let port: u16 = port.parse().unwrap();
        container["readinessProbe"] = json!({"grpc": {"port": port, "service": service}, "periodSeconds": 1, "timeoutSeconds": 5});
        container
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                probed("whole", healthy, ""),
                probed("sick", healthy, "db"),
                probed("unknown", healthy, "nobody"),
                probed("without", silent, ""),
            ],
        }),
    );
    pod.run_detached();
    for message in ["NOT_SERVING", "unknown", "without"] {
        eventually(message, || {
            let events = case.pod(["events", "--warnings", &pod.name]).ok().stdout;
            events.contains(message).then_some(())
        });
    }
    let status = pod.until("the healthy one is ready", |pod| {
        container_status(pod, "whole")["ready"] == true
    });
    for name in ["sick", "unknown", "without"] {
        assert_eq!(container_status(&status, name)["ready"], false, "{name}");
    }
    pod.delete_force().ok();
    drop(server);
    case.assert_nothing_left();
}
