//! Many pods, and pods on a machine that has much to do: `scripts/bench pods`.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Case, Need, eventually, process, sh};

/// So many pods at once.
const MANY: usize = 100;
/// So many of them whose times are looked at.
const TIMED: usize = 20;
/// For so long their probes are.
const PROBED: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_secs(1);
const HOOK: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(3);

/// The released runtime and what it is told to do.
struct Bench<'a> {
    case: &'a Case,
    runp: PathBuf,
}

impl Bench<'_> {
    fn pod(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.runp);
        command.arg("--root").arg(self.case.state_root());
        command.arg("--data-root").arg(self.case.data_root());
        command
            .env("RUNP_TEST", &self.case.token)
            .arg("pod")
            .args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The manifest's directory.
    fn manifest(&self, name: &str, spec: &Value) -> PathBuf {
        let pod = crate::support::Pod::new(self.case, name, spec.clone());
        pod.dir
    }

    fn name(&self, n: usize) -> String {
        self.case.id(&n.to_string())
    }

    fn journal(&self, n: usize) -> Vec<Value> {
        let path = self
            .case
            .state_root()
            .join("pods")
            .join(self.name(n))
            .join("journal");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// When something of this type happened first, to this container.
    fn time(&self, n: usize, kind: &str, container: Option<usize>) -> Option<Duration> {
        let journal = self.journal(n);
        let mut entries = journal.iter().filter(|entry| {
            let event = &entry["event"];
            event["type"] == kind && container.is_none_or(|c| event["container"] == c)
        });
        Some(Duration::from_nanos(entries.next()?["time"].as_u64()?))
    }

    /// Starts so many pods at once, and waits until this container of each runs.
    fn start(
        &self,
        pods: usize,
        container: usize,
        manifest: impl Fn(usize) -> PathBuf,
    ) -> Duration {
        let manifests: Vec<PathBuf> = (0..pods).map(manifest).collect();
        let began = Instant::now();
        let started: Vec<Child> = manifests
            .iter()
            .enumerate()
            .map(|(n, dir)| {
                let run = ["run", "--detach", "--name", &self.name(n)];
                self.pod(&run).arg(dir).spawn().unwrap()
            })
            .collect();
        for mut child in started {
            assert!(child.wait().unwrap().success());
        }
        eventually("all run", || {
            let runs = |n: usize| self.time(n, "started", Some(container)).is_some();
            (0..pods).all(runs).then_some(())
        });
        began.elapsed()
    }

    fn each(&self, pods: usize, verb: &[&str]) {
        let all: Vec<Child> = (0..pods)
            .map(|n| {
                self.pod(&[verb, &[&self.name(n)]].concat())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut child in all {
            assert!(child.wait().unwrap().success());
        }
    }

    fn supervisor(&self, n: usize) -> i32 {
        let journal = self.journal(n);
        let pid = journal
            .iter()
            .find_map(|entry| entry["supervisor"]["pid"].as_i64());
        pid.unwrap().try_into().unwrap()
    }

    fn pause(&self, n: usize) -> i32 {
        let journal = self.journal(n);
        let mut all = journal
            .iter()
            .filter(|entry| entry["event"]["type"] == "sandboxStarted");
        let pid = all.next().unwrap()["event"]["pid"].as_i64();
        pid.unwrap().try_into().unwrap()
    }
}

#[test]
fn pods_many_and_under_load() {
    // It is a measurement, of nothing that could fail.
    let Some(runp) = std::env::var_os("RUNP_BENCH_PODS") else {
        return;
    };
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let runp = runp.into();
    let bench = Bench { case: &case, runp };
    let mut table = String::from("| pods | |\n| --- | --- |\n");
    many(&bench, &mut table);
    under_load(&bench, &mut table);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-pods.md");
    fs::write(path, &table).unwrap();
}

fn many(bench: &Bench<'_>, table: &mut String) {
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "initContainers": [sh("one", "true"), sh("two", "true")],
        "containers": [sh("app", "exec sleep 1000")],
    });
    let manifest = bench.manifest("many", &spec);
    for pods in [1, MANY] {
        let took = bench.start(pods, 2, |_| manifest.clone());
        // A supervisor that has nothing to do rests.
        std::thread::sleep(Duration::from_secs(3));
        let mean = |of: &dyn Fn(usize) -> i32| {
            let sizes = (0..pods).map(|n| process::memory(of(n)).proportional);
            sizes.sum::<usize>() / pods
        };
        let supervisor = mean(&|n| bench.supervisor(n));
        let pause = mean(&|n| bench.pause(n));
        let took = took.as_secs_f64();
        writeln!(
            table,
            "| {pods} at once, 2 inits and 1 app each, until all apps run | {took:.2} s |"
        )
        .unwrap();
        writeln!(
            table,
            "| with {pods}: PSS of each supervisor, and of pause | {supervisor} KiB, {pause} KiB |"
        )
        .unwrap();
        let switches = || -> u64 {
            let all = (0..pods).flat_map(|n| [bench.supervisor(n), bench.pause(n)]);
            let of = |pid| process::status(pid, "voluntary_ctxt_switches");
            all.map(|pid| of(pid).parse::<u64>().unwrap()).sum()
        };
        let before = switches();
        std::thread::sleep(Duration::from_secs(10));
        let woken = switches() - before;
        writeln!(
            table,
            "| with {pods}, idle: wake-ups of all supervisors and pauses in 10 s | {woken} |"
        )
        .unwrap();
        bench.each(pods, &["delete", "--force"]);
    }
}

/// Programs that do nothing but take all time of the machine.
struct Busy(Vec<Child>);

impl Busy {
    fn with(count: usize) -> Self {
        let hog = || {
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()
                .unwrap()
        };
        Self((0..count).map(|_| hog()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            hog.kill().unwrap();
            hog.wait().unwrap();
        }
    }
}

/// When somebody connected.
fn arrivals(listener: TcpListener) -> Arc<Mutex<Vec<Instant>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&seen);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let now = Instant::now();
            drop(connection);
            times.lock().unwrap().push(now);
        }
    });
    seen
}

fn under_load(bench: &Bench<'_>, table: &mut String) {
    let cpus = std::thread::available_parallelism().unwrap().get();
    for hogs in [0, 2 * cpus] {
        let busy = Busy::with(hogs);
        let mut seen = Vec::new();
        let mut manifests = Vec::new();
        for n in 0..TIMED {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            seen.push(arrivals(listener));
            let mut app = sh("app", "trap '' TERM; while :; do sleep 1; done");
            app["readinessProbe"] = json!({"tcpSocket": {"host": "127.0.0.1", "port": port}, "periodSeconds": PERIOD.as_secs()});
            app["lifecycle"] = json!({"preStop": {"sleep": {"seconds": HOOK.as_secs()}}});
            let spec = json!({"hostNetwork": true, "terminationGracePeriodSeconds": GRACE.as_secs(), "containers": [app]});
            manifests.push(bench.manifest(&format!("timed{hogs}-{n}"), &spec));
        }
        bench.start(TIMED, 0, |n| manifests[n].clone());
        std::thread::sleep(PROBED);
        bench.each(TIMED, &["stop"]);
        drop(busy);
        let probes = seen.iter().flat_map(|times| {
            let times = times.lock().unwrap();
            let late = times
                .windows(2)
                .map(|two| (two[1] - two[0]).saturating_sub(PERIOD));
            late.collect::<Vec<_>>()
        });
        let after_stop = |kind: &str, due: Duration| -> Duration {
            let late = (0..TIMED).map(|n| {
                let asked = bench.time(n, "stopRequested", None).unwrap();
                (bench.time(n, kind, Some(0)).unwrap() - asked).saturating_sub(due)
            });
            late.max().unwrap()
        };
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let with =
            format!("{TIMED} pods and {hogs} busy programs on {cpus} CPUs: worst lateness of");
        let mut row = |what: &str, late: Duration| {
            writeln!(table, "| {with} {what} | {} |", ms(late)).unwrap()
        };
        row("a probe", probes.max().unwrap());
        row("the end of a preStop hook", after_stop("hookEnded", HOOK));
        row(
            "SIGKILL after the grace period",
            after_stop("exited", GRACE),
        );
        bench.each(TIMED, &["delete"]);
    }
}
