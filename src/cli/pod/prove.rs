//! `runp pod prove`.

use super::Places;
use crate::cli::table::table;
use crate::cli::{print, print_json};
use crate::error::{Error, Result};
use crate::pod::data::Data;
use crate::pod::prove::{NAMESPACES, Process, Proof, prove};
use crate::pod::store::PodName;
use crate::pod::supervisor::plan_of;
use crate::pod::{journal, network, sandbox};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Show what the kernel says of a pod's processes, against what was planned
///
/// Who shares which namespace, what each container may do, which volumes it reaches; whether
/// a CNI network is as its plugins made it. Exits with 1 where that contradicts
/// the plan.
#[derive(Debug, clap::Args)]
pub(super) struct Prove {
    /// The pod's name
    name: PodName,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Prove {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        let mut record = pod.record()?;
        let journal = journal::read(&pod.journal())?;
        let plan = plan_of(&mut record, &journal.pod.spec, &places.pods.claims())?;
        let pause = sandbox::pause(&record.cgroup)?;
        let data = Data::at(record.data.clone());
        let mut proof = prove(&plan, &places.store, &data, pause.as_ref())?;
        if let Err(e) = network::check(&pod, &record) {
            proof.contradictions.push(format!("network: {e}"));
        }
        match self.output {
            Format::Table => print(&text(&proof))?,
            Format::Json => {
                let json = serde_json::to_value(&proof).map_err(|e| Error::new(e.to_string()))?;
                print_json(&json)?;
            }
        }
        Ok(i32::from(!proof.contradictions.is_empty()))
    }
}

fn text(proof: &Proof) -> String {
    let mut text = table(
        [
            "PROCESS", "PID", "NET", "IPC", "UTS", "PID-NS", "MNT", "CGROUP", "USER",
        ],
        proof.processes.iter().map(|process| {
            let [net, ipc, uts, pid, mnt, cgroup, user] =
                NAMESPACES.map(|kind| namespace(process, kind));
            [
                process.name.clone(),
                process.pid.to_string(),
                net,
                ipc,
                uts,
                pid,
                mnt,
                cgroup,
                user,
            ]
        }),
    );
    text.push('\n');
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    text += &table(
        [
            "PROCESS",
            "UID",
            "NO-NEW-PRIVS",
            "SECCOMP",
            "MOUNTS",
            "CAPABILITIES",
            "VOLUMES",
        ],
        proof.processes.iter().map(|process| {
            let capabilities: Vec<&str> = process
                .bounding
                .iter()
                .map(|name| name.strip_prefix("CAP_").unwrap_or(name))
                .collect();
            let volumes = process.volumes.iter().map(|(name, points)| {
                let points: Vec<String> = points.iter().map(|p| p.display().to_string()).collect();
                format!("{name}={}", points.join(","))
            });
            [
                process.name.clone(),
                process.uid.to_string(),
                yes(process.no_new_privileges),
                yes(process.seccomp),
                process.mounts.to_string(),
                match capabilities.len() {
                    0 => "none".into(),
                    41.. => "all".into(),
                    _ => capabilities.join(","),
                },
                volumes.collect::<Vec<_>>().join(" "),
            ]
        }),
    );
    text.push('\n');
    if !proof.not_running.is_empty() {
        text += &format!("not running: {}\n", proof.not_running.join(", "));
    }
    if proof.contradictions.is_empty() {
        text += "all as planned\n";
    }
    for contradiction in &proof.contradictions {
        text += &format!("contradicts the plan: {contradiction}\n");
    }
    text
}

fn namespace(process: &Process, kind: &str) -> String {
    match process.of_the_host.contains(kind) {
        true => "host".into(),
        false => process
            .namespaces
            .get(kind)
            .map_or_else(String::new, u64::to_string),
    }
}
