//! The shim against runc's, in one containerd 2.1, call by call: `scripts/bench shim`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

use super::cri::{Cri, Kind, Network, named, pod_config, processes};
use super::shims;
use crate::support::alone::alone;
use crate::support::{Case, Need, process};

/// Handlers of containerd's configuration: ours, what it is compared with, and a shim that makes nothing (`scripts/stub.rs`),
/// with which containerd's and CNI's own time is left.
const RUNTIMES: [&str; 3] = ["runp", "runc", "stub"];
/// What is timed, in milliseconds, in the order of a pod's life.
const STEPS: [&str; 6] = [
    "run a sandbox",
    "create a container",
    "start a container",
    "exec `true`, synchronously",
    "stop a pod with one container",
    "remove a pod with one container",
];
/// Rows of the table: some of these steps together.
const ROWS: [(&str, &[usize]); 8] = [
    ("run a sandbox", &[0]),
    ("create a container", &[1]),
    ("start a container", &[2]),
    ("create and start a container", &[1, 2]),
    ("exec `true`, synchronously", &[3]),
    ("stop a pod with one container", &[4]),
    ("remove a pod with one container", &[5]),
    ("all of it", &[0, 1, 2, 3, 4, 5]),
];
/// So many pods of each runtime at once, for the memory.
const PODS: [usize; 4] = [1, 5, 20, 100];

/// The times of each life, by runtime.
type Times = BTreeMap<&'static str, Vec<[f64; STEPS.len()]>>;

#[test]
fn the_shim_against_runcs() {
    // It is a measurement, of nothing that could fail.
    let Ok(runs) = std::env::var("RUNP_BENCH_SHIM") else {
        return;
    };
    if !alone("shim::bench::the_shim_against_runcs") {
        return;
    }
    let Some(case) = Case::new(&[Need::Program("curl"), Need::Runp]) else {
        return;
    };
    assert!(Kind::ForkyShim.is_there(), "run scripts/peers");
    let runs: usize = runs.parse().unwrap();
    let cri = Cri::new(&case, Kind::ForkyShim);
    let mut times = Times::new();
    for _ in 0..runs {
        for runtime in RUNTIMES {
            one_life(&cri, &case, runtime, &mut times);
        }
    }
    let mut table = table(&times);
    rates(&cri, &case, runs, &mut table);
    memory(&cri, &case, &mut table);
    cri.leaves_nothing();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-shim.md");
    fs::write(path, &table).unwrap();
}

fn one_life(cri: &Cri<'_>, case: &Case, runtime: &'static str, times: &mut Times) {
    let mut life = [0.0; STEPS.len()];
    let mut took = |step: usize| life[step] = cri.took();
    let config = pod_config(case, Network::Bridge, 1);
    let pod = cri.run_pod_on(runtime, &config);
    took(0);
    let app = cri.create(&pod, &config, "app", "sleep 1000");
    took(1);
    cri.start(&app);
    took(2);
    cri.exec(&app, &["true"]);
    took(3);
    cri.stop_pod(&pod);
    took(4);
    cri.remove_stopped_pod(&pod);
    took(5);
    times.entry(runtime).or_default().push(life);
}

/// Of the sorted values.
fn quantile(sorted: &[f64], quarter: usize) -> f64 {
    sorted[(sorted.len() - 1) * quarter / 4]
}

fn table(times: &Times) -> String {
    let mut table = String::from(
        "| median (quartiles), ms | runp's shim | runc's shim | containerd and CNI themselves | runp / runc | the same beyond that |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for (name, steps) in ROWS {
        let sorted = RUNTIMES.map(|runtime| {
            let lives = times[runtime].iter();
            let mut values: Vec<_> = lives
                .map(|life| steps.iter().map(|step| life[*step]).sum::<f64>())
                .collect();
            values.sort_by(f64::total_cmp);
            values
        });
        let cells = sorted.each_ref().map(|values| {
            let [low, middle, high] = [1, 2, 3].map(|quarter| quantile(values, quarter));
            format!("{middle:.1} ({low:.1}–{high:.1})")
        });
        let [runp, runc, stub] = sorted.each_ref().map(|values| quantile(values, 2));
        let (ratio, cells) = (runp / runc, cells.join(" | "));
        // Where runc's shim takes no time of its own, ours cannot take less.
        let beyond = match runc > stub {
            true => format!("{:.2}", (runp - stub).max(0.0) / (runc - stub)),
            false => "-".to_owned(),
        };
        writeln!(table, "| {name} | {cells} | {ratio:.2} | {beyond} |").unwrap();
    }
    table
}

/// Pods with one container on the node's network, with a pause image, one after another: how many are up in a second, for who
/// waits for nothing but containerd.
fn rates(cri: &Cri<'_>, case: &Case, runs: usize, table: &mut String) {
    let config = pod_config(case, Network::Node, 1);
    let mut milliseconds = [0.0; 3];
    let runtimes = ["runp-pause", "runc", "stub-pause"];
    let mut pods = Vec::new();
    for _ in 0..runs {
        for (runtime, sum) in runtimes.into_iter().zip(&mut milliseconds) {
            let config = named(&config, pods.len());
            let pod = cri.run_pod_on(runtime, &config);
            *sum += cri.took();
            let app = cri.create(&pod, &config, "app", "sleep 1000");
            *sum += cri.took();
            cri.start(&app);
            *sum += cri.took();
            pods.push(pod);
        }
    }
    for pod in pods {
        cri.stop_pod(&pod);
        cri.remove_stopped_pod(&pod);
    }
    let [runp, runc, stub] = milliseconds.map(|sum| runs as f64 * 1000.0 / sum);
    let ratio = runp / runc;
    writeln!(
        table,
        "| pods up per second on the node's network, pause image | {runp:.1} | {runc:.1} | {stub:.1} | {ratio:.2} | |"
    )
    .unwrap();
}

/// How often a shim that has nothing to do is on the processor in ten seconds, and its threads.
fn idle(pid: i32) -> (u64, u64) {
    let number = |name: &str| -> u64 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let status = tasks.map(|task| fs::read_to_string(task.path().join("status")).unwrap());
        let of = |status: String| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse().unwrap()
        };
        status.map(of).sum()
    };
    std::thread::sleep(Duration::from_secs(3));
    let before = number("voluntary_ctxt_switches:");
    std::thread::sleep(Duration::from_secs(10));
    let after = number("voluntary_ctxt_switches:");
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    (after - before, threads as u64)
}

/// A process's proportional and own memory, in KiB.
fn size(pid: i32) -> (usize, usize) {
    let memory = process::memory(pid);
    (memory.proportional, memory.own)
}

fn memory(cri: &Cri<'_>, case: &Case, table: &mut String) {
    let config = pod_config(case, Network::Bridge, 1);
    for count in PODS {
        let mut idles = Vec::new();
        let cells = ["runp", "runc"].map(|runtime| {
            let pods: Vec<_> = (0..count)
                .map(|number| {
                    let config = named(&config, number);
                    let pod = cri.run_pod_on(runtime, &config);
                    let app = cri.create(&pod, &config, "app", "sleep 1000");
                    cri.start(&app);
                    pod
                })
                .collect();
            if count == 1 {
                idles.push(idle(shims()[0]));
            } else {
                // Until those that go to sleep do.
                std::thread::sleep(Duration::from_secs(2));
            }
            let mean = |pids: Vec<i32>| {
                let sizes: Vec<_> = pids.into_iter().map(size).collect();
                let sum = |of: fn(&(usize, usize)) -> usize| sizes.iter().map(of).sum::<usize>();
                (sum(|size| size.0) / count, sum(|size| size.1) / count)
            };
            let (shim, own) = mean(shims());
            let pause = match runtime {
                "runp" => mean(processes("pause")),
                // The pause image and the app have the same program: so it is half of both.
                _ => {
                    let (pss, own) = mean(processes("sleep"));
                    (pss / 2, own / 2)
                }
            };
            for pod in pods {
                cri.stop_pod(&pod);
                cri.remove_stopped_pod(&pod);
            }
            format!("{shim} ({own}); {} ({})", pause.0, pause.1)
        });
        writeln!(
            table,
            "| KiB of each shim and each pause, PSS (anonymous), with {count} pods | {} | | | |",
            cells.join(" | ")
        )
        .unwrap();
        if let [runp, runc] = idles[..] {
            let cell = |(wakes, threads)| format!("{wakes} in 10 s; {threads}");
            let (runp, runc) = (cell(runp), cell(runc));
            writeln!(
                table,
                "| an idle shim's wake-ups; threads | {runp} | {runc} | | | |"
            )
            .unwrap();
        }
    }
}
