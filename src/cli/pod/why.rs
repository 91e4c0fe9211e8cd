//! `runp pod why`.

use serde_json::json;

use super::Places;
use crate::cli::{print, print_json};
use crate::error::Result;
use crate::pod::journal::Entry;
use crate::pod::lifecycle::Index;
use crate::pod::logs::{self, Show};
use crate::pod::observe::Observed;
use crate::pod::progress::printable;
use crate::pod::store::PodName;
use crate::pod::why::{Case, LAST_LINES, render, why};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Tell what is wrong with a pod, what shows it, and what to do
///
/// Exits with 1 if something is wrong, else with 0.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The pod's name
    name: PodName,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

impl Why {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        let observed = Observed::of(&pod, &places.store)?;
        let entries = observed.journal.entries.iter();
        let events: Vec<_> = entries
            .filter_map(|(time, entry)| match entry {
                Entry::Event(event) => Some((*time, event.clone())),
                Entry::Supervisor(_) => None,
            })
            .collect();
        let life = &observed.life;
        let log = |container: Index| {
            let name = &life.spec().containers[container.0].name;
            let restart = life.containers()[container.0].restart_count;
            let show = Show {
                tail: Some(LAST_LINES),
                ..Show::default()
            };
            let mut text = Vec::new();
            // The run that failed is the one before, if the next one has begun.
            for run in [Some(restart), restart.checked_sub(1)]
                .into_iter()
                .flatten()
            {
                if text.is_empty() {
                    let _ = logs::print(&pod.logs(name), run, show, &mut text); // it has none
                }
            }
            let text = String::from_utf8_lossy(&text);
            text.lines().map(printable).collect()
        };
        let now = observed.seen_until();
        let findings = why(&Case {
            life,
            events: &events,
            now,
            supervised: observed.alive.supervisor,
            log: &log,
        });
        match self.output {
            Format::Text => {
                let text = render(self.name.as_str(), life, &findings, now);
                let lines = text.lines().map(|line| printable(line) + "\n");
                print(&lines.collect::<String>())?;
            }
            Format::Json => print_json(&json!({
                "pod": self.name.as_str(),
                "phase": life.phase().name(),
                "findings": findings,
            }))?,
        }
        Ok(i32::from(!findings.is_empty()))
    }
}
