//! SIGKILL to the runtime at every system call that it makes, then `delete --force`: nothing may be left, and the id is
//! free again.
//!
//! strace(1) counts the calls of the runtime's own process, and then kills a fresh run at each of them.

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::json;

use super::strace::{Point, points, points_of, read, strace};
use super::world::{Running, World};
use crate::support::pod::terminated;
use crate::support::{Need, PATIENCE, Pod, Shared, eventually, process};

/// How often a point is tried. A run that had to wait once less or more than the one that was counted is over before it
/// gets there.
const TRIES: usize = 20;

/// Kills a fresh run of `command` at each of its calls: `before` makes ready for it, `after` looks at what it has left and
/// cleans up.
fn sweep(world: &World, command: &Command, before: impl Fn(), after: impl Fn(&Point)) {
    let all = typical(|| {
        before();
        let all = points_of(&world.case, command);
        after(all.last().unwrap());
        all
    });
    let run = |point: &Point| {
        before();
        let status = strace(
            &["-o", "/dev/null", "-e", &point.inject("signal=SIGKILL")],
            command,
        )
        .status();
        let killed = status.unwrap().signal() == Some(9);
        after(point);
        killed
    };
    kill_at(&all, run);
}

/// The calls of the run that makes the fewest: one that had to wait, as few do, makes calls that no other one gets to.
fn typical(trace: impl Fn() -> Vec<Point>) -> Vec<Point> {
    let traces = (0..4).map(|_| trace());
    traces.min_by_key(Vec::len).unwrap()
}

/// Kills at every point, by `run`, which tells whether it did.
fn kill_at(points: &[Point], run: impl Fn(&Point) -> bool) {
    assert!(points.len() >= 10, "the trace is too short: {points:?}");
    for point in points {
        let killed = (0..TRIES).any(|_| run(point));
        assert!(killed, "not killed at {point:?}, in {TRIES} runs");
    }
    eprintln!("killed at each of {} system calls", points.len());
}

/// The control of all others.
#[test]
fn the_census_sees_what_is_left() {
    let Some(world) = World::of("faults::kills::the_census_sees_what_is_left", &[]) else {
        return;
    };
    assert_eq!(world.baseline.left_behind(), Vec::<String>::new());
    let left = |kind: &str| {
        world
            .baseline
            .left_behind()
            .iter()
            .any(|l| l.starts_with(kind))
    };
    let file = world.case.dir().join("namespace");
    std::fs::write(&file, "").unwrap();
    let mut unshare = Command::new("unshare");
    unshare.arg(format!("--net={}", file.display()));
    world.case.finish(unshare).ok();
    assert!(left("net:") && left("mount ") && !left("process "));
    rustix::mount::unmount(&file, rustix::mount::UnmountFlags::empty()).unwrap();
    assert!(!left("net:") && !left("mount "));
    let mut sleep = Command::new("unshare");
    let mut sleep = sleep.args(["--uts", "sleep", "1000"]).spawn().unwrap();
    eventually("it is seen", || left("uts:").then_some(()));
    assert!(left("process "));
    sleep.kill().unwrap();
    sleep.wait().unwrap();
}

#[test]
fn create() {
    let Some(world) = World::of("faults::kills::create", &[]) else {
        return;
    };
    let c = world.case.bundle("c").args(&["/bin/sleep", "1000"]);
    let create = world.command_on("create", &c);
    let dirty = Cell::new(0);
    sweep(
        &world,
        &create,
        || (),
        |point| {
            dirty.set(dirty.get() + usize::from(!world.case.left_behind().is_empty()));
            world.delete(&c, point);
        },
    );
    eprintln!("{} left something to delete", dirty.get());
    assert!(dirty.get() > 0, "the census sees nothing");
}

/// With what a bundle can ask for besides: hooks, and a filter that is compiled anew each time.
#[test]
fn create_with_hooks_and_a_filter() {
    let test = "faults::kills::create_with_hooks_and_a_filter";
    let Some(world) = World::of(test, &[]) else {
        return;
    };
    let hook = json!([{"path": "/bin/true"}]);
    let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"});
    let c = world
        .case
        .bundle("c")
        .with(
            "/hooks",
            json!({"createRuntime": hook, "createContainer": hook, "poststop": hook}),
        )
        .with(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}),
        )
        .args(&["/bin/sleep", "1000"]);
    let create = world.command_on("create", &c);
    let before = || {
        let _ = std::fs::remove_dir_all(world.case.state_root().join("@seccomp"));
    };
    let after = |point: &Point| world.delete(&c, point);
    sweep(&world, &create, before, after);
}

#[test]
fn run() {
    let Some(world) = World::of("faults::kills::run", &[]) else {
        return;
    };
    let c = world.case.bundle("c").args(&["/bin/true"]);
    let run = world.command_on("run", &c);
    let after = |point: &Point| world.delete(&c, point);
    sweep(&world, &run, || (), after);
}

/// Whoever comes next can still start it, or finds it started.
#[test]
fn start() {
    let Some(world) = World::of("faults::kills::start", &[]) else {
        return;
    };
    let c = world.case.bundle("c").args(&["/bin/sleep", "1000"]);
    let start = world.command(&["start", &c.id]);
    let before = || drop(c.create().ok());
    let after = |point: &Point| {
        let again = c.start();
        let is_started = ["it is running", "it was started"].map(|why| again.stderr.contains(why));
        assert!(
            again.status.success() || is_started.contains(&true),
            "killed at {point:?}: {again:#?}"
        );
        eventually("it runs", || (c.status() == "running").then_some(()));
        world.delete(&c, point);
    };
    sweep(&world, &start, before, after);
}

#[test]
fn delete_force() {
    let Some(world) = World::of("faults::kills::delete_force", &[]) else {
        return;
    };
    let c = world.case.bundle("c").args(&["/bin/sleep", "1000"]);
    let command = world.command(&["delete", "--force", &c.id]);
    let before = || drop(c.run_detached().ok());
    let after = |point: &Point| world.delete(&c, point);
    sweep(&world, &command, before, after);
}

/// The container goes on as before, without any process of the exec's.
#[test]
fn exec() {
    let Some(world) = World::of("faults::kills::exec", &[]) else {
        return;
    };
    let c = world.case.bundle("c").args(&["/bin/sleep", "1000"]);
    let container = Running::new(&c);
    let exec = world.command(&["exec", &c.id, "/bin/true"]);
    let after = |point: &Point| container.is_as_before(point);
    sweep(&world, &exec, || (), after);
    c.exec(&[], &["/bin/true"]).ok();
    let last = Point {
        call: "exec".into(),
        nth: 0,
    };
    world.delete(&c, last);
}

/// `pod run`, from its first call to the one that writes into the journal that the pod runs. In parts, so that they run
/// side by side: every `of`-th point, beginning with `first`.
fn pod_run(test: &str, first: usize, of: usize) {
    let Some(world) = World::of(test, &[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &world.case,
        "p",
        json!({
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}],
            "initContainers": [{"name": "init", "command": ["/bin/true"],
                                "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}]}],
            "containers": [{"name": "app", "command": ["/bin/sleep", "1000"]}],
        }),
    );
    let mut run = world.case.pod_runtime();
    run.args(["run", pod.dir.to_str().unwrap()]);
    let is_running = || pod.journal().contains(RUNNING);
    let delete = |point: &Point| {
        // Where it can be told at all, the status is the truth or says that there is no such pod.
        let status = pod.try_status();
        assert!(status.status.signal().is_none(), "{status:#?}");
        let deleted = pod.delete_force();
        assert!(
            deleted.status.success(),
            "killed at {point:?}: {deleted:#?}"
        );
    };
    let attempt = |options: &[&str], point: &Point| {
        let mut child = strace(options, &run).spawn().unwrap();
        ends_or(&mut child, is_running);
        delete(point);
        let status = child.wait().unwrap();
        world.nothing_left(point);
        status.signal() == Some(9)
    };

    let none = Point {
        call: "none".into(),
        nth: 0,
    };
    let trace = world.case.dir().join("trace");
    let options = ["-s", "4096", "-o", trace.to_str().unwrap()];
    attempt(&options, &none); // makes directories that stay, for all pods
    let all = typical(|| {
        assert!(!attempt(&options, &none));
        points(&up_to_running(&read(&trace)))
    });
    let mine: Vec<_> = all.into_iter().skip(first).step_by(of).collect();
    kill_at(&mine, |point| {
        let inject = point.inject("signal=SIGKILL");
        attempt(&["-o", "/dev/null", "-e", &inject], point)
    });
}

/// The journal's word for: the app, the pod's second container, has been started.
const RUNNING: &str = r#""started","container":1"#;

/// The lines of the trace up to the call that wrote [`RUNNING`].
fn up_to_running(trace: &str) -> String {
    let written = RUNNING.replace('"', "\\\"");
    let (before, rest) = trace.split_once(&written).expect("the pod was running");
    let line = rest.split('\n').next().unwrap();
    format!("{before}{written}{line}\n")
}

/// Waits until the process ends, or `done` says that it has got where it should.
fn ends_or(child: &mut Child, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() && !done() {
        assert!(Instant::now() < deadline, "neither killed nor done");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whoever takes a pod over may be killed at each of its calls: the next one finds all that the first one has left. The
/// container runs on, says and does the rest, and has its exit code.
#[test]
fn pod_attach_supervise() {
    let test = "faults::kills::pod_attach_supervise";
    let Some(world) = World::of(test, &[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&world.case);
    let script = "echo begun | tee -a /shared/log; while [ ! -e /shared/go ]; do sleep 0.05; done; echo said; exit 7";
    let spec = json!({
        "restartPolicy": "Never",
        "volumes": [shared.volume()],
        "containers": [shared.container("app", script)],
    });
    let pod = Pod::new(&world.case, "p", spec);
    let mut run = world.case.pod_runtime();
    run.args(["run", "--quiet", pod.dir.to_str().unwrap()]);
    let mut run = run.spawn().unwrap();
    eventually("it speaks", || {
        (shared.lines("log") == ["begun"]).then_some(())
    });
    run.kill().unwrap();
    run.wait().unwrap();

    let mut attach = world.case.pod_runtime();
    attach.args(["attach", "--supervise", "--quiet", &pod.name]);
    // Who is not killed before it waits for something to happen is killed then.
    let attempt = |options: &[&str]| {
        let mut strace = strace(options, &attach).spawn().unwrap();
        let pid = strace.id().cast_signed();
        let tracee = || process::all().find(|it| process::parent(*it) == Some(pid));
        let looks = Cell::new(0);
        let waits = || looks.get() == 20;
        ends_or(&mut strace, || {
            let sleeps = tracee().is_some_and(process::sleeps);
            looks.set(if sleeps { looks.get() + 1 } else { 0 });
            waits()
        });
        tracee()
            .filter(|_| waits())
            .into_iter()
            .for_each(process::kill);
        strace.wait().unwrap();
        !waits()
    };
    let trace = world.case.dir().join("trace");
    let all = typical(|| {
        assert!(!attempt(&["-o", trace.to_str().unwrap()]));
        points(&read(&trace))
    });
    kill_at(&all, |point| {
        let inject = point.inject("signal=SIGKILL");
        attempt(&["-o", "/dev/null", "-e", &inject])
    });

    std::fs::write(shared.path.join("go"), "").unwrap();
    let attached = world.case.finish(attach).code(7);
    let status = pod.status();
    assert_eq!(terminated(&status, "app")["exitCode"], 7, "{attached:?}");
    assert_eq!(pod.log("app"), "begun\nsaid\n");
    assert_eq!(shared.lines("log"), ["begun"]);
    pod.delete().ok();
    world.nothing_left("the last one");
}

#[test]
fn pod_run_part_1() {
    pod_run("faults::kills::pod_run_part_1", 0, 4);
}

#[test]
fn pod_run_part_2() {
    pod_run("faults::kills::pod_run_part_2", 1, 4);
}

#[test]
fn pod_run_part_3() {
    pod_run("faults::kills::pod_run_part_3", 2, 4);
}

#[test]
fn pod_run_part_4() {
    pod_run("faults::kills::pod_run_part_4", 3, 4);
}
