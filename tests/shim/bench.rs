//! The shim against runc's, in one containerd 2.1, call by call: `scripts/bench shim`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use super::kubelet::{Cri, Kind, Network, pod_config, processes};
use super::shims;
use crate::support::alone::alone;
use crate::support::{Case, Need, process};

/// Handlers of containerd's configuration.
const RUNTIMES: [&str; 2] = ["runp", "runc"];
/// What is timed, in milliseconds, in the order of a pod's life.
const STEPS: [&str; 6] = [
    "run a sandbox",
    "create a container",
    "start a container",
    "exec `true`, synchronously",
    "stop a pod with one container",
    "remove a pod with one container",
];
/// So many pods of each runtime at once, for the memory.
const PODS: [usize; 3] = [1, 5, 20];

/// Times by step and runtime.
type Times = BTreeMap<(usize, &'static str), Vec<f64>>;

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
    memory(&cri, &case, &mut table);
    cri.leaves_nothing();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-shim.md");
    fs::write(path, &table).unwrap();
}

fn one_life(cri: &Cri<'_>, case: &Case, runtime: &'static str, times: &mut Times) {
    let mut took = |step: usize| {
        let time = cri.took();
        times.entry((step, runtime)).or_default().push(time);
    };
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
}

/// Of the sorted values.
fn quantile(sorted: &[f64], quarter: usize) -> f64 {
    sorted[(sorted.len() - 1) * quarter / 4]
}

fn table(times: &Times) -> String {
    let mut table = String::from(
        "| median (quartiles), ms | runp's shim | runc's shim | ratio |\n| --- | --- | --- | --- |\n",
    );
    for (step, name) in STEPS.iter().enumerate() {
        let sorted = RUNTIMES.map(|runtime| {
            let mut values = times[&(step, runtime)].clone();
            values.sort_by(f64::total_cmp);
            values
        });
        let cells = sorted.each_ref().map(|values| {
            let [low, middle, high] = [1, 2, 3].map(|quarter| quantile(values, quarter));
            format!("{middle:.1} ({low:.1}–{high:.1})")
        });
        let ratio = quantile(&sorted[0], 2) / quantile(&sorted[1], 2);
        writeln!(
            table,
            "| {name} | {} | {} | {ratio:.2} |",
            cells[0], cells[1]
        )
        .unwrap();
    }
    table
}

/// A process's proportional and own memory, in KiB.
fn size(pid: i32) -> (usize, usize) {
    let memory = process::memory(pid);
    (memory.proportional, memory.own)
}

fn memory(cri: &Cri<'_>, case: &Case, table: &mut String) {
    for count in PODS {
        let cells = RUNTIMES.map(|runtime| {
            let config = pod_config(case, Network::Bridge, 1);
            let pods: Vec<_> = (0..count)
                .map(|n| {
                    let config = super::kubelet::named(&config, n);
                    let pod = cri.run_pod_on(runtime, &config);
                    let app = cri.create(&pod, &config, "app", "sleep 1000");
                    cri.start(&app);
                    pod
                })
                .collect();
            let mean = |sizes: Vec<(usize, usize)>| {
                let sum = sizes
                    .iter()
                    .fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
                (sum.0 / count, sum.1 / count)
            };
            let (shim, own) = mean(shims().into_iter().map(size).collect());
            let pause = match runtime {
                "runp" => mean(processes("pause").into_iter().map(size).collect()).0,
                _ => 0,
            };
            for pod in pods {
                cri.stop_pod(&pod);
                cri.remove_stopped_pod(&pod);
            }
            match pause {
                0 => format!("{shim} KiB, {own} KiB own"),
                pause => format!("{shim} KiB, {own} KiB own; pause {pause} KiB"),
            }
        });
        writeln!(
            table,
            "| a pod's shim, PSS with {count} | {} | {} | |",
            cells[0], cells[1]
        )
        .unwrap();
    }
}
