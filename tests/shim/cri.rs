//! A containerd with its CRI, and what the kubelet would ask of it: with 1.6, whose sandbox is a container with a pause image,
//! and with Debian forky's 2.1 (`scripts/peers` unpacks it), whose sandbox is our own pause process.
//!
//! The client is curl: a gRPC call is an HTTP/2 request.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::wire::{Value, bytes_of, decode, field, number, number_of};
use super::{Containerd, private_run_dir};
use crate::callers::busybox;
use crate::support::alone::alone;
use crate::support::{Case, Need, eventually, process};

pub(super) const IMAGE: &str = "docker.io/library/box:1";
/// `NamespaceMode`.
pub(super) const POD: u64 = 0;
pub(super) const CONTAINER: u64 = 1;
const NODE: u64 = 2;
/// `ContainerState`.
pub(super) const RUNNING: u64 = 1;
const EXITED: u64 = 2;

pub(super) type Fields = Vec<(u64, Value)>;

/// A containerd with its CRI.
pub(super) struct Cri<'a> {
    pub(super) containerd: Containerd<'a>,
    kind: Kind,
    /// Holds the network in which containerd and the pods' bridge are.
    network: Child,
    /// How long the last call took, in milliseconds.
    took: Mutex<f64>,
    /// Of calls so far.
    calls: AtomicUsize,
}

/// Which containerd, and who makes the sandboxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Debian bookworm's 1.6: a container with a pause image.
    Bookworm,
    /// Debian forky's 2.1, its own controller: the same.
    ForkyPodsandbox,
    /// Debian forky's 2.1: the shim.
    ForkyShim,
}

/// Which network a pod has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Network {
    Bridge,
    Node,
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

impl Kind {
    pub(super) fn is_there(self) -> bool {
        self == Self::Bookworm || peers().join("usr/bin/containerd").exists()
    }

    /// In this network; forky's by its own libraries, which are newer than the machine's.
    fn command(self, network: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", network.display()));
        if self == Self::Bookworm {
            command.arg("containerd");
            return command;
        }
        let root = peers();
        command
            .arg(root.join("lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(root.join("usr/lib/x86_64-linux-gnu"))
            .arg(root.join("usr/bin/containerd"));
        command
    }

    fn configuration(self, cni: &str) -> String {
        // Where root lacks CAP_SYS_RESOURCE, containers cannot get what Kubernetes gives them.
        match self {
            Self::Bookworm => format!(
                r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runp"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runp]
    runtime_type = "io.containerd.runp.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"#
            ),
            Self::ForkyShim | Self::ForkyPodsandbox => {
                let sandboxer = match self {
                    Self::ForkyShim => "shim",
                    _ => "podsandbox",
                };
                format!(
                    r#"version = 3
[plugins."io.containerd.nri.v1.nri"]
  disable = true # its socket would be that of all containerds
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runp]
    runtime_type = "io.containerd.runp.v2"
    sandboxer = "{sandboxer}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runp-pause]
    runtime_type = "io.containerd.runp.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.stub]
    runtime_type = "io.containerd.stub.v2"
    sandboxer = "shim"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.stub-pause]
    runtime_type = "io.containerd.stub.v2"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{cni}"
"#
                )
            }
        }
    }
}

impl<'a> Cri<'a> {
    pub(super) fn new(case: &'a Case, kind: Kind) -> Self {
        private_run_dir();
        let dir = case.dir().join("containerd");
        fs::create_dir(&dir).unwrap();
        let cni = bridge(case);
        let configuration = kind.configuration(cni.to_str().unwrap());
        fs::write(dir.join("config.toml"), configuration).unwrap();
        let script = "ip link set lo up && exec cat";
        let mut network = Command::new("unshare");
        network.args(["--net", "sh", "-c", script]);
        network.env("RUNP_TEST", &case.token).stdin(Stdio::piped());
        let network = network.spawn().unwrap();
        let mut cri = Self {
            containerd: Containerd { case, daemon: None },
            kind,
            network,
            took: Mutex::new(0.0),
            calls: AtomicUsize::new(0),
        };
        eventually("there is a network", || {
            (processes("cat").len() == 1).then_some(())
        });
        cri.restart();
        let archive = image(case);
        let import = ["--namespace", "k8s.io", "image", "import"];
        let import = [&import[..], &[archive.to_str().unwrap()]].concat();
        cri.containerd.ctr(&import).ok();
        cri
    }

    /// Starts containerd, once more if it has been killed.
    pub(super) fn restart(&mut self) {
        let command = self.kind.command(&self.network());
        self.containerd.start_as(command);
        // It answers before it has looked at what there is.
        eventually("its CRI answers", || self.try_call("Status", &[]).ok());
    }

    /// The namespace.
    pub(super) fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.network.id()).into()
    }

    /// A call of the runtime service; an error is its message.
    fn try_call(&self, method: &str, request: &[u8]) -> Result<Fields, String> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let headers = self.containerd.case.dir().join(format!("headers{call}"));
        let url = format!("http://localhost/runtime.v1.RuntimeService/{method}");
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--http2-prior-knowledge",
            "--max-time",
            "60",
        ])
        .arg("--unix-socket")
        .arg(self.containerd.socket())
        .args([
            "--header",
            "content-type: application/grpc",
            "--header",
            "te: trailers",
        ])
        .args(["--write-out", "%{stderr}%{time_total}"])
        .args(["--data-binary", "@-", "--dump-header"])
        .arg(&headers)
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
        let mut curl = curl.spawn().unwrap();
        let mut frame = vec![0];
        frame.extend((request.len() as u32).to_be_bytes());
        frame.extend(request);
        curl.stdin.take().unwrap().write_all(&frame).unwrap();
        let output = curl.wait_with_output().unwrap();
        assert!(output.status.success(), "{method}: {output:?}");
        let took = String::from_utf8(output.stderr).unwrap();
        *self.took.lock().unwrap() = took.trim().parse::<f64>().unwrap() * 1000.0;
        let path = headers;
        let headers = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        let header = |name: &str| {
            let mut lines = headers.lines().filter_map(|line| line.strip_prefix(name));
            lines.next().map(|value| value.trim().to_owned())
        };
        match header("grpc-status:").as_deref() {
            Some("0") => Ok(decode(output.stdout.get(5..).unwrap_or_default())),
            _ => Err(format!("{method}: {headers}")),
        }
    }

    #[track_caller]
    pub(super) fn call(&self, method: &str, request: &[u8]) -> Fields {
        match self.try_call(method, request) {
            Ok(answer) => answer,
            Err(e) => panic!("{e}"),
        }
    }

    /// RunPodSandbox: its id.
    #[track_caller]
    pub(super) fn run_pod(&self, config: &[u8]) -> String {
        self.run_pod_on("runp", config)
    }

    /// The same with another runtime of the configuration.
    #[track_caller]
    pub(super) fn run_pod_on(&self, runtime: &str, config: &[u8]) -> String {
        let request = [field(1, config), field(2, runtime)].concat();
        string(&self.call("RunPodSandbox", &request), 1)
    }

    /// CreateContainer: its id.
    #[track_caller]
    pub(super) fn create(&self, pod: &str, config: &[u8], name: &str, script: &str) -> String {
        self.create_with(pod, config, name, script, &[])
    }

    /// The same, with more fields of its configuration.
    #[track_caller]
    pub(super) fn create_with(
        &self,
        pod: &str,
        config: &[u8],
        name: &str,
        script: &str,
        more: &[u8],
    ) -> String {
        let container = [
            field(1, field(1, name)),
            field(2, field(1, IMAGE)),
            field(3, "/bin/sh"),
            field(3, "-c"),
            field(3, script),
            field(6, [field(1, "PATH"), field(2, "/bin")].concat()),
            field(11, format!("{name}.log")),
            more.to_vec(),
        ];
        let request = [
            field(1, pod),
            field(2, container.concat()),
            field(3, config),
        ];
        string(&self.call("CreateContainer", &request.concat()), 1)
    }

    pub(super) fn start(&self, container: &str) {
        self.call("StartContainer", &field(1, container));
    }

    /// Its state and exit code.
    pub(super) fn status(&self, container: &str) -> (u64, u64) {
        let answer = self.call("ContainerStatus", &field(1, container));
        let status = decode(&bytes_of(&answer, 1));
        (number_of(&status, 3), number_of(&status, 7))
    }

    pub(super) fn wait_for_exit(&self, container: &str) -> u64 {
        eventually("the container ends", || {
            let (state, code) = self.status(container);
            (state == EXITED).then_some(code)
        })
    }

    /// ExecSync: standard output and exit code.
    pub(super) fn exec(&self, container: &str, command: &[&str]) -> (String, u64) {
        let words = command.iter().flat_map(|word| field(2, word));
        let request = [field(1, container), words.collect(), number(3, 10)].concat();
        let answer = self.call("ExecSync", &request);
        (string(&answer, 1), number_of(&answer, 3))
    }

    /// Whether its sandbox is ready.
    pub(super) fn is_ready(&self, pod: &str) -> bool {
        let status = self.call("PodSandboxStatus", &field(1, pod));
        // SANDBOX_READY is 0, which is not written.
        number_of(&decode(&bytes_of(&status, 1)), 3) == 0
    }

    /// As the kubelet ends a pod.
    pub(super) fn remove_pod(&self, pod: &str) {
        self.stop_pod(pod);
        self.remove_stopped_pod(pod);
    }

    pub(super) fn stop_pod(&self, pod: &str) {
        self.call("StopPodSandbox", &field(1, pod));
    }

    pub(super) fn remove_stopped_pod(&self, pod: &str) {
        self.call("RemovePodSandbox", &field(1, pod));
    }

    /// How long the last call took, in milliseconds.
    pub(super) fn took(&self) -> f64 {
        *self.took.lock().unwrap()
    }

    pub(super) fn leaves_nothing(mut self) {
        self.network.kill().unwrap();
        self.network.wait().unwrap();
        self.containerd.leaves_nothing();
    }
}

pub(super) fn string(fields: &Fields, wanted: u64) -> String {
    String::from_utf8(bytes_of(fields, wanted)).unwrap()
}

/// The busybox image as an archive that containerd imports; it is a pause image, too.
pub(super) fn image(case: &Case) -> PathBuf {
    let dir = case.dir().join("image");
    fs::create_dir(&dir).unwrap();
    let run = |command: &mut Command| {
        case.finish(std::mem::replace(command, Command::new("true")))
            .ok()
    };
    run(Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(dir.join("layer.tar"))
        .arg("--directory")
        .arg(busybox())
        .arg("."));
    let sum = run(Command::new("sha256sum").arg(dir.join("layer.tar"))).stdout;
    let sum = sum.split_whitespace().next().unwrap();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        _ => "arm64",
    };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]},
    ]);
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = case.dir().join("image.tar");
    run(Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&dir)
        .args(["manifest.json", "config.json", "layer.tar"]));
    archive
}

/// The configuration of a bridge, which is in containerd's own network only.
fn bridge(case: &Case) -> PathBuf {
    let dir = case.dir().join("cni");
    fs::create_dir(&dir).unwrap();
    let bridge = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "test",
        "plugins": [{
            "type": "bridge",
            "bridge": "test0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": case.dir().join("addresses"),
                "ranges": [[{"subnet": "10.99.0.0/24"}]],
            },
        }],
    });
    fs::write(dir.join("bridge.conflist"), bridge.to_string()).unwrap();
    dir
}

/// A pod on the bridge, or on the node's network.
pub(super) fn pod_config(case: &Case, network: Network, pids: u64) -> Vec<u8> {
    let logs = case.dir().join("logs");
    fs::create_dir_all(&logs).unwrap();
    let metadata = [field(1, "pod"), field(2, &case.token), field(3, "default")];
    let (mode, hostname) = match network {
        Network::Bridge => (Vec::new(), field(2, "web-0")),
        Network::Node => (number(1, NODE), Vec::new()),
    };
    let namespaces = [mode, number(2, pids)];
    let security = field(1, namespaces.concat());
    let sysctl = match network {
        Network::Bridge => {
            let entry = [
                field(1, "net.ipv4.ip_unprivileged_port_start"),
                field(2, "7"),
            ];
            field(3, entry.concat())
        }
        Network::Node => Vec::new(),
    };
    let parent = field(1, format!("/{}", case.token));
    let linux = [parent, field(2, security), sysctl];
    let config = [
        field(1, metadata.concat()),
        hostname,
        field(3, logs.to_str().unwrap()),
        field(
            4,
            [field(1, "10.0.0.10"), field(2, "svc.cluster.local")].concat(),
        ),
        field(8, linux.concat()),
    ];
    config.concat()
}

/// Another pod of the same configuration.
pub(super) fn named(config: &[u8], number: usize) -> Vec<u8> {
    // Of a field that is there twice the last one holds, and of a message in it all fields: here its uid.
    let uid = field(2, format!("pod{number}"));
    [config.to_vec(), field(1, uid)].concat()
}

/// The pids of those that run by this name.
pub(super) fn processes(name: &str) -> Vec<i32> {
    let is_it = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim() == name && process::runs(*pid)
    };
    process::all().filter(is_it).collect()
}

/// A test with this containerd, alone.
pub(super) fn test(name: &str, kind: Kind, run: impl FnOnce(&Case, Kind)) {
    if !alone(&format!("shim::{name}")) {
        return;
    }
    let needs = [
        Need::Program("containerd"),
        Need::Program("curl"),
        Need::Runp,
    ];
    let Some(case) = Case::new(&needs) else {
        return;
    };
    if !kind.is_there() {
        eprintln!("skipped: needs scripts/peers");
        return;
    }
    run(&case, kind);
}
