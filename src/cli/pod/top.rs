//! `runp pod top`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Places, seconds};
use crate::cli::table::table;
use crate::cli::{print, print_json};
use crate::container;
use crate::error::Result;
use crate::pod::container::container_id;
use crate::pod::observe::Observed;
use crate::pod::store::PodName;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs: CPU in cores, memory in bytes
    Json,
}

/// Show what a pod's containers use
#[derive(Debug, clap::Args)]
pub(super) struct Top {
    /// The pod's name
    name: PodName,
    /// How long CPU time is measured
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    interval: Duration,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// What one container uses.
struct Use {
    name: String,
    /// In cores.
    cpu: f64,
    /// In bytes, without what the kernel could take back at once.
    memory: u64,
    limit: Option<u64>,
    pids: u64,
}

impl Top {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        let observed = Observed::of(&pod, &places.store)?;
        let specs = observed.life.spec().containers.iter();
        let running = specs
            .zip(&observed.alive.containers)
            .filter(|(_, alive)| **alive);
        let mut first = Vec::new();
        for (spec, _) in running {
            let id = container_id(self.name.as_str(), &spec.name)?;
            // One that has ended since uses nothing.
            if let Ok(stats) = container::stats(&places.store, &id) {
                first.push((spec.name.clone(), id, stats.cpu.usage.total, Instant::now()));
            }
        }
        std::thread::sleep(self.interval);
        let mut all = Vec::new();
        for (name, id, before, at) in first {
            let Ok(stats) = container::stats(&places.store, &id) else {
                continue;
            };
            let used = stats.cpu.usage.total.saturating_sub(before);
            let memory = stats.memory;
            // Kubernetes' working set.
            let inactive = ["inactive_file", "total_inactive_file"];
            let inactive = inactive.iter().rev().find_map(|key| memory.raw.get(*key));
            // No limit is a number that no machine has.
            let limit = Some(memory.usage.limit).filter(|limit| (1..1 << 60).contains(limit));
            let counted = memory.usage.usage;
            let processes = container::processes(&places.store, &id).unwrap_or_default();
            all.push(Use {
                name,
                cpu: used as f64 / at.elapsed().as_nanos().max(1) as f64,
                memory: match counted {
                    0 => processes.iter().map(|pid| proportional(*pid)).sum(),
                    counted => counted.saturating_sub(inactive.copied().unwrap_or(0)),
                },
                limit,
                pids: stats.pids.current.max(processes.len() as u64),
            });
        }
        match self.output {
            Format::Table => print(&table(
                ["CONTAINER", "CPU", "MEMORY", "LIMIT", "PIDS"],
                all.iter().map(|used| {
                    [
                        used.name.clone(),
                        format!("{:.0}m", used.cpu * 1000.0),
                        mebibytes(used.memory),
                        used.limit.map_or_else(|| "-".into(), mebibytes),
                        used.pids.to_string(),
                    ]
                }),
            ))?,
            Format::Json => {
                let containers = all.iter().map(|used| {
                    json!({"name": used.name, "cpu": used.cpu, "memory": used.memory, "limit": used.limit, "pids": used.pids})
                });
                print_json(
                    &json!({"pod": self.name.as_str(), "containers": containers.collect::<Vec<_>>()}),
                )?;
            }
        }
        Ok(0)
    }
}

/// The memory of a process in bytes, its share of what it has in common with others: for a cgroup of v2 whose memory nobody
/// counts, because it has no limit.
fn proportional(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kibibytes = rollup.lines().find_map(|line| {
        let words = line.strip_prefix("Pss:")?;
        words.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0) * 1024
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}Mi", bytes as f64 / f64::from(1 << 20))
}
