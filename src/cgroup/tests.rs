//! The real thing, as root: on this machine's own layout, without its v2 part, and in a view that is pure v2.
//!
//! Each test runs again in a process of its own, once for each layout.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::sys::process::Exit;

const VIEW: &str = "RUNP_TEST_CGROUP_VIEW";

/// Replaces what is mounted by one cgroup2 mount, in a mount namespace of its own.
const PURE_V2: &str = "mount --make-rprivate / && umount -Rl /sys/fs/cgroup && \
    mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"";

fn everywhere(body: fn(&Layout)) {
    on(&["own", "v1", "v2"], body);
}

fn on(views: &[&str], body: fn(&Layout)) {
    if let Ok(view) = std::env::var(VIEW) {
        if !views.contains(&view.as_str()) {
            return;
        }
        let mut layout = Layout::detect().unwrap();
        assert_eq!(layout.v1.is_empty(), view == "v2");
        if view == "v1" {
            layout.v2 = None;
        }
        return body(&layout);
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let test = std::thread::current().name().unwrap().to_owned();
    for view in views {
        let mut command = Command::new("unshare");
        let script = if *view == "v2" {
            PURE_V2
        } else {
            "exec \"$0\" \"$@\""
        };
        command
            .args(["-m", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap());
        command
            .args(["--exact", &test, "--nocapture"])
            .env(VIEW, view);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{view}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn fresh_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("/runp-test-{}-{n}", std::process::id()).into()
}

fn container(path: impl Into<PathBuf>, resources: &str) -> Plan {
    let json = format!("{{\"resources\": {resources}}}");
    let linux: Linux = serde_json::from_str(&json).unwrap();
    let mut errors = Vec::new();
    let plan = plan(
        &"c".parse().unwrap(),
        Some(&linux),
        Maker::Cgroupfs,
        &mut errors,
    );
    assert_eq!(errors, vec![]);
    Plan {
        path: path.into(),
        ..plan
    }
}

/// Removes the cgroup whatever happens, and checks that nothing of it stays.
struct Gone<'a>(&'a Layout, PathBuf);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let cgroup = self.0.open(&self.1).unwrap();
        cgroup.kill().unwrap();
        cgroup.remove().unwrap();
        if !std::thread::panicking() {
            assert_eq!(directories(&cgroup), 0);
        }
    }
}

fn directories(cgroup: &Cgroup) -> usize {
    cgroup.mounted().filter(|(_, dir)| dir.exists()).count()
}

/// A shell that has joined the cgroup.
struct Shell(Child);

impl Shell {
    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn wait(mut self) -> Exit {
        let status = self.0.wait().unwrap();
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code as u8),
            (None, signal) => Exit::Signal(signal.unwrap() as u8),
        }
    }
}

/// A thread joins the v1 hierarchies, starts the shell in them and is gone; v2 has only whole processes.
fn shell(cgroup: &Cgroup, script: &str) -> Shell {
    let start = || {
        cgroup.join().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "read go && eval \"$0\"", script]);
        command.stdin(Stdio::piped()).spawn().unwrap()
    };
    let mut child = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    if let Some(v2) = cgroup.v2() {
        file::write(v2.join("cgroup.procs"), &child.id().to_string()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    Shell(child)
}

fn file_of(cgroup: &Cgroup, controller: &str, name: &str) -> String {
    let dir = cgroup.dir(cgroup.layout.v1_with(controller));
    file::read(dir.join(name)).unwrap()
}

#[test]
fn a_container_lives_in_it_and_leaves_nothing() {
    everywhere(|layout| {
        let gone = Gone(layout, fresh_path());
        let cgroup = layout.create(&container(&gone.1, "{}")).unwrap();
        assert_eq!(directories(&cgroup), cgroup.mounted().count());
        let sleeper = shell(&cgroup, "exec sleep 1000");
        cgroup.verify(sleeper.pid()).unwrap();
        assert!(cgroup.verify(std::process::id().cast_signed()).is_err());
        assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()]);
        cgroup.kill().unwrap();
        assert_eq!(sleeper.wait(), Exit::Signal(9));
        assert_eq!(cgroup.pids().unwrap(), Vec::<i32>::new());
        cgroup.remove().unwrap();
        assert_eq!(directories(&cgroup), 0);
        cgroup.kill().unwrap();
        cgroup.remove().unwrap();
        assert_eq!(cgroup.oom_kills().unwrap(), 0);
        assert!(!cgroup.is_frozen().unwrap());
    });
}

#[test]
fn limits_are_taken_and_changed() {
    on(&["own", "v1"], |layout| {
        let gone = Gone(layout, fresh_path());
        let resources = |memory: u64, swap: u64, period: u64, quota: u64| {
            format!(
                r#"{{"memory": {{"limit": {memory}, "swap": {swap}, "swappiness": 7}}, "pids": {{"limit": 9}},
                "cpu": {{"shares": 512, "period": {period}, "quota": {quota}, "burst": {quota}, "cpus": "0"}},
                "blockIO": {{"weight": 200}}}}"#
            )
        };
        let plan = container(&gone.1, &resources(64 << 20, 80 << 20, 50_000, 20_000));
        let cgroup = layout.create(&plan).unwrap();
        assert_eq!(file_of(&cgroup, "pids", "pids.max"), "9");
        assert_eq!(
            file_of(&cgroup, "memory", "memory.limit_in_bytes"),
            (64 << 20).to_string()
        );
        assert_eq!(file_of(&cgroup, "cpu", "cpu.shares"), "512");
        assert_eq!(file_of(&cgroup, "cpuset", "cpuset.cpus"), "0");
        assert_eq!(file_of(&cgroup, "blkio", "blkio.bfq.weight"), "200");
        // Up and down again: memory passes the old limit of memory with swap, and the burst the old quota.
        for (memory, swap, period, quota) in [
            (256 << 20, 300 << 20, 900_000, 500_000),
            (8 << 20, 16 << 20, 10_000, 5000),
        ] {
            let plan = container(&gone.1, &resources(memory, swap, period, quota));
            cgroup.set(&plan.limits, || Ok(())).unwrap();
            assert_eq!(
                file_of(&cgroup, "memory", "memory.memsw.limit_in_bytes"),
                swap.to_string()
            );
            assert_eq!(
                file_of(&cgroup, "cpu", "cpu.cfs_quota_us"),
                quota.to_string()
            );
        }
    });
}

#[test]
fn a_change_that_fails_half_way_is_undone() {
    on(&["own", "v1"], |layout| {
        let gone = Gone(layout, fresh_path());
        let before = r#"{"memory": {"limit": 67108864, "swap": 83886080}, "pids": {"limit": 9},
            "cpu": {"shares": 512, "quota": 20000, "burst": 20000, "cpus": "0"}}"#;
        let cgroup = layout.create(&container(&gone.1, before)).unwrap();
        let all = |cgroup: &Cgroup| {
            let files = [
                ("memory", "memory.limit_in_bytes"),
                ("memory", "memory.memsw.limit_in_bytes"),
                ("memory", "memory.soft_limit_in_bytes"),
                ("memory", "memory.oom_control"),
                ("pids", "pids.max"),
                ("cpu", "cpu.shares"),
                ("cpu", "cpu.cfs_quota_us"),
                ("cpu", "cpu.cfs_burst_us"),
                ("cpuset", "cpuset.cpus"),
                ("blkio", "blkio.bfq.weight"),
            ];
            files.map(|(controller, file)| file_of(cgroup, controller, file))
        };
        let was = all(&cgroup);
        let after = r#"{"memory": {"limit": 268435456, "swap": 314572800, "reservation": 1048576,
                "disableOOMKiller": true}, "pids": {"limit": 20},
            "cpu": {"shares": 2048, "quota": 50000, "burst": 50000, "cpus": "4000"},
            "blockIO": {"weight": 300}}"#;
        let error = cgroup
            .set(&container(&gone.1, after).limits, || Ok(()))
            .unwrap_err();
        let error = error.to_string();
        assert!(error.contains("linux.resources.cpu.cpus"), "{error}");
        assert!(!error.contains("cleaning up"), "{error}");
        assert_eq!(all(&cgroup), was);
        // Positive control: with a processor that is there it is all taken.
        let after = after.replace("4000", "0");
        let refuse = || Err(Error::new("no"));
        let wanted = container(&gone.1, &after).limits;
        assert!(cgroup.set(&wanted, refuse).is_err());
        assert_eq!(all(&cgroup), was);
        cgroup.set(&wanted, || Ok(())).unwrap();
        assert_ne!(all(&cgroup), was);
    });
}

#[test]
fn a_controller_of_v2_is_enabled_on_the_way() {
    on(&["own", "v2"], |layout| {
        let gone = Gone(layout, fresh_path());
        let resources = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#;
        let cgroup = layout
            .create(&container(gone.1.join("a/b"), resources))
            .unwrap();
        let v2 = cgroup.v2().unwrap();
        assert_eq!(file::read(v2.join("hugetlb.2MB.max")).unwrap(), "4194304");
        assert!(cgroup.pids().unwrap().is_empty());
    });
}

#[test]
fn a_limit_that_is_not_to_be_had_leaves_nothing() {
    on(&["v2"], |layout| {
        let path = fresh_path();
        let _gone = Gone(layout, path.clone());
        let error = layout.create(&container(path.join("a"), r#"{"memory": {"limit": 4096}}"#));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("linux.resources.memory.limit: the controller memory is not available"),
            "{error}"
        );
        assert!(
            error.contains("/sys/fs/cgroup/cgroup.controllers lists only"),
            "{error}"
        );
        assert_eq!(directories(&layout.open(&path).unwrap()), 0);
    });
    on(&["own"], |layout| {
        let path = fresh_path();
        let _gone = Gone(layout, path.clone());
        let error = layout.create(&container(path.join("a"), r#"{"cpu": {"cpus": "4000"}}"#));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("linux.resources.cpu.cpus: write \"4000\" to "),
            "{error}"
        );
        assert_eq!(directories(&layout.open(&path).unwrap()), 0);
    });
}

#[test]
fn a_cgroup_in_use_or_frozen_is_refused() {
    everywhere(|layout| {
        let gone = Gone(layout, fresh_path());
        let plan = container(&gone.1, "{}");
        let cgroup = layout.create(&plan).unwrap();
        cgroup.freeze().unwrap();
        let error = layout.create(&plan).unwrap_err().to_string();
        assert!(error.contains("is frozen"), "{error}");
        cgroup.thaw().unwrap();
        let sleeper = shell(&cgroup, "exec sleep 1000");
        let error = layout.create(&plan).unwrap_err().to_string();
        assert!(error.contains("already has processes"), "{error}");
        cgroup.verify(sleeper.pid()).unwrap();
        cgroup.kill().unwrap();
        sleeper.wait();
        layout.create(&plan).unwrap();
    });
}

#[test]
fn a_leftover_of_ours_is_made_anew() {
    on(&["own"], |layout| {
        let path = Path::new(HOME).join(format!("test-{}", std::process::id()));
        let gone = Gone(layout, path.clone());
        let cgroup = layout
            .create(&container(&gone.1, r#"{"pids": {"limit": 5}}"#))
            .unwrap();
        assert_eq!(file_of(&cgroup, "pids", "pids.max"), "5");
        cgroup.freeze().unwrap();
        let cgroup = layout.create(&container(&gone.1, "{}")).unwrap();
        assert_eq!(file_of(&cgroup, "pids", "pids.max"), "max");
        assert!(!cgroup.is_frozen().unwrap());
        assert_eq!(shell(&cgroup, "exit 3").wait(), Exit::Code(3));
    });
}

#[test]
fn frozen_processes_stop_and_can_be_killed() {
    everywhere(|layout| {
        let gone = Gone(layout, fresh_path());
        let cgroup = layout.create(&container(&gone.1, "{}")).unwrap();
        let busy = shell(&cgroup, "while :; do :; done");
        cgroup.freeze().unwrap();
        assert!(cgroup.is_frozen().unwrap());
        cgroup.thaw().unwrap();
        assert!(!cgroup.is_frozen().unwrap());
        cgroup.freeze().unwrap();
        cgroup.kill().unwrap();
        assert_eq!(busy.wait(), Exit::Signal(9));
    });
}

/// Processes that each start another and end: a list of them is old when it is read.
const HOP: &str = "exec perl -e 'for (1..30) { fork or last } while (1) { fork and exit }'";
/// Processes that only start others, and do not give up at the limit.
const BOMB: &str = "exec perl -e 'while (1) { fork }'";

#[test]
fn what_forks_all_the_time_is_killed() {
    everywhere(|layout| {
        let table = [("{}", HOP), (r#"{"pids": {"limit": 300}}"#, BOMB)];
        // A bomb needs a limit, and the pids controller is not in the v2 view of a hybrid machine.
        let bombs = if layout.v1.is_empty() { 1 } else { 2 };
        for (limits, script) in &table[..bombs] {
            let gone = Gone(layout, fresh_path());
            let cgroup = layout.create(&container(&gone.1, limits)).unwrap();
            let first = shell(&cgroup, script);
            let given_up = Instant::now() + Duration::from_secs(10);
            while cgroup.pids().unwrap().len() < 20 {
                assert!(Instant::now() < given_up, "it does not fork");
                std::thread::yield_now();
            }
            let started = Instant::now();
            cgroup.kill().unwrap();
            assert!(started.elapsed() < Duration::from_secs(2));
            first.wait();
            assert_eq!(cgroup.pids().unwrap(), Vec::<i32>::new());
        }
    });
}

#[test]
fn cgroups_that_a_container_made_go_too() {
    everywhere(|layout| {
        let gone = Gone(layout, fresh_path());
        let cgroup = layout.create(&container(&gone.1, "{}")).unwrap();
        let inner = layout
            .create(&container(gone.1.join("a/b/c"), "{}"))
            .unwrap();
        layout.create(&container(gone.1.join("a/d"), "{}")).unwrap();
        let sleeper = shell(&inner, "exec sleep 1000");
        assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()]);
        let error = layout
            .create(&container(&gone.1, "{}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("already has processes"), "{error}");
        cgroup.kill().unwrap();
        sleeper.wait();
        cgroup.remove().unwrap();
        assert_eq!(directories(&cgroup), 0);
    });
}

#[test]
fn half_of_one_can_be_killed_and_removed() {
    everywhere(|layout| {
        let gone = Gone(layout, fresh_path());
        let cgroup = layout.create(&container(&gone.1, "{}")).unwrap();
        let dirs: Vec<_> = cgroup.mounted().map(|(_, dir)| dir).collect();
        std::fs::remove_dir(dirs.last().unwrap()).unwrap();
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = sleeper.id().to_string();
        for dir in &dirs {
            let _ = file::write(dir.join("cgroup.procs"), &pid);
        }
        let found = layout.open(&gone.1).unwrap();
        found.kill().unwrap();
        if dirs.len() == 1 {
            // The only cgroup is not there: nothing was in it.
            sleeper.kill().unwrap();
        }
        sleeper.wait().unwrap();
        found.remove().unwrap();
        assert_eq!(directories(&found), 0);
    });
}

#[test]
fn pods_hold_containers_whichever_comes_first() {
    everywhere(|layout| {
        for pod_first in [true, false] {
            let gone = Gone(layout, fresh_path());
            let (pods, json) = if layout.v2.is_some() {
                (
                    "hugetlb",
                    r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#,
                )
            } else {
                ("pids", r#"{"pids": {"limit": 50}}"#)
            };
            let pod = Plan::around(&gone.1, container("/x", json).limits);
            let app = container(gone.1.join("app"), json);
            if pod_first {
                layout.create(&pod).unwrap();
            }
            let pause = layout
                .create(&container(gone.1.join("pause"), "{}"))
                .unwrap();
            let pausing = shell(&pause, "exec sleep 1000");
            if !pod_first {
                layout.create(&pod).unwrap();
            }
            let app = layout
                .create(&app)
                .unwrap_or_else(|e| panic!("{pods}: {e}"));
            let working = shell(&app, "exec sleep 1000");
            let pod = layout.open(&pod.path).unwrap();
            let mut pids = pod.pids().unwrap();
            pids.sort_unstable();
            let mut expected = [pausing.pid(), working.pid()];
            expected.sort_unstable();
            assert_eq!(pids, expected);
            app.kill().unwrap();
            app.remove().unwrap();
            working.wait();
            pause.verify(pausing.pid()).unwrap();
            pod.kill().unwrap();
            pausing.wait();
        }
    });
}

#[test]
fn memory_kills_are_counted() {
    on(&["own", "v1"], |layout| {
        let gone = Gone(layout, fresh_path());
        let plan = container(
            &gone.1,
            r#"{"memory": {"limit": 8388608, "swap": 8388608}}"#,
        );
        let cgroup = layout.create(&plan).unwrap();
        assert_eq!(cgroup.oom_kills().unwrap(), 0);
        let eater = shell(
            &cgroup,
            "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null",
        );
        assert_eq!(eater.wait(), Exit::Signal(9));
        assert_eq!(cgroup.oom_kills().unwrap(), 1);
    });
}

/// A node can be made; whether it opens is the answer. 1:11 is kmsg, 1:3 null.
const OPENS: &str = "d=$(mktemp -d) && mknod $d/n c 1 11 && : >/dev/null && : 2>/dev/null <$d/n; \
    result=$?; rm -r $d; exit $result";

#[test]
fn device_rules_can_be_replaced() {
    everywhere(|layout| {
        let gone = Gone(layout, fresh_path());
        let plan = container(&gone.1, "{}");
        let cgroup = layout.create(&plan).unwrap();
        cgroup.restrict_devices(&plan).unwrap();
        let everything = r#"{"devices": [{"allow": true, "access": "rwm"}]}"#;
        let one = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#;
        let opens = || shell(&cgroup, OPENS).wait() == Exit::Code(0);
        assert!(!opens());
        for (resources, expected) in [
            (one, true),
            ("{}", false),
            (everything, true),
            ("{}", false),
            (one, true),
        ] {
            let plan = container(&gone.1, resources);
            cgroup.set_devices(&plan.devices.unwrap()).unwrap();
            assert_eq!(opens(), expected, "{resources}");
        }
    });
}

#[test]
fn devices_are_denied_unless_they_are_allowed() {
    everywhere(|layout| {
        let table = [
            ("{}", false),
            (r#"{"devices": []}"#, false),
            (r#"{"devices": [{"allow": false, "access": "rwm"}]}"#, false),
            (
                r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#,
                true,
            ),
            (
                r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]}"#,
                false,
            ),
            (r#"{"devices": [{"allow": true, "access": "rwm"}]}"#, true),
            (
                r#"{"devices": [{"allow": true, "access": "rwm"}, {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#,
                false,
            ),
        ];
        for (resources, opens) in table {
            let gone = Gone(layout, fresh_path());
            let plan = container(&gone.1, resources);
            let cgroup = layout.create(&plan).unwrap();
            cgroup.restrict_devices(&plan).unwrap();
            let exit = shell(&cgroup, OPENS).wait();
            assert_eq!(exit == Exit::Code(0), opens, "{resources}: {exit:?}");
        }
    });
}

#[test]
fn the_home_comes_and_goes() {
    everywhere(|layout| {
        let path = Path::new(HOME).join(format!("test-home-{}", std::process::id()));
        let gone = Gone(layout, path);
        let cgroup = layout.create(&container(&gone.1, "{}")).unwrap();
        assert_eq!(shell(&cgroup, "exit 4").wait(), Exit::Code(4));
        cgroup.remove().unwrap();
        // Other tests come and go in it at the same time, but an empty one never stays.
        let given_up = Instant::now() + Duration::from_secs(5);
        for (_, dir) in layout.open(Path::new(HOME)).unwrap().mounted() {
            let empty = || file::read_below(&dir, "cgroup.procs").unwrap().len() == 1;
            while empty() {
                assert!(Instant::now() < given_up, "{}", dir.display());
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn many_can_come_and_go_at_once() {
    everywhere(|layout| {
        let cycles = |name: String| {
            for n in 0..20 {
                let path = Path::new(HOME).join(format!("{name}-{n}"));
                let cgroup = layout.create(&container(&path, "{}")).unwrap();
                let mut process = Command::new("true").spawn().unwrap();
                for (_, dir) in cgroup.mounted() {
                    let _ = file::write(dir.join("cgroup.procs"), &process.id().to_string());
                }
                process.wait().unwrap();
                cgroup.kill().unwrap();
                cgroup.remove().unwrap();
                assert_eq!(directories(&cgroup), 0);
            }
        };
        std::thread::scope(|scope| {
            for n in 0..4 {
                scope.spawn(move || cycles(format!("test-many-{}-{n}", std::process::id())));
            }
        });
    });
}
