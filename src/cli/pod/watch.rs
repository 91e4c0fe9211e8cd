//! Verbs that wait for news: events, wait.

use std::io::Write;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Places, seconds};
use crate::cli::table::table;
use crate::cli::{print, print_json};
use crate::error::{Error, Result};
use crate::pod::events::{Told, events};
use crate::pod::follow::Follow;
use crate::pod::journal;
use crate::pod::observe::Observed;
use crate::pod::progress::printable;
use crate::pod::store::{PodDir, PodName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// A Kubernetes List of Events; with --follow an Event per line
    Json,
}

/// Show what has happened to a pod
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    /// The pod's name
    name: PodName,
    /// Go on until the pod is over
    #[arg(short, long)]
    follow: bool,
    /// Only warnings
    #[arg(short, long)]
    warnings: bool,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Events {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        if self.follow {
            return self.follow(&pod, places).map(|()| 0);
        }
        let record = journal::read(&pod.journal())?;
        let events = self.chosen(&record);
        match self.output {
            Format::Table => {
                let rows = events.iter().map(|told| {
                    let [time, kind, reason, object] = columns(told, &record);
                    [time, kind, reason, object, told.message.clone()]
                });
                print(&table(
                    ["TIME", "TYPE", "REASON", "OBJECT", "MESSAGE"],
                    rows,
                ))?;
            }
            Format::Json => {
                let items: Vec<_> = events.iter().map(|told| told.json(&record)).collect();
                print_json(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
            }
        }
        Ok(0)
    }

    fn chosen(&self, record: &journal::Record) -> Vec<Told> {
        let all = events(record).into_iter();
        all.filter(|told| told.warning || !self.warnings).collect()
    }

    fn follow(&self, pod: &PodDir, places: &Places) -> Result<()> {
        let follow = Follow::new(pod)?;
        let mut shown = 0;
        loop {
            let observed = Observed::of(pod, &places.store)?;
            let record = &observed.journal;
            let all = self.chosen(record);
            for told in &all[shown..] {
                let line = match self.output {
                    Format::Table => {
                        let [time, kind, reason, object] = columns(told, record);
                        let message = printable(&told.message);
                        format!("{time}   {kind:<7}   {reason:<18}   {object:<12}   {message}")
                    }
                    Format::Json => told.json(record).to_string(),
                };
                print(&format!("{line}\n"))?;
            }
            shown = all.len();
            if observed.life.finished() || observed.is_abandoned() {
                return Ok(());
            }
            follow.wait(None)?;
        }
    }
}

fn columns(told: &Told, record: &journal::Record) -> [String; 4] {
    let [kind, reason] = [told.kind(), told.reason].map(str::to_owned);
    [told.time.to_string(), kind, reason, told.object(record)]
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum For {
    /// A condition of the pod has this status.
    Condition(String, String),
    /// The pod has this phase.
    Phase(String),
    /// The pod is over.
    End,
    /// The pod is removed.
    Delete,
}

impl FromStr for For {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut parts = text.splitn(3, '=');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("condition"), Some(kind), status) if !kind.is_empty() => Ok(Self::Condition(
                kind.into(),
                status.unwrap_or("True").into(),
            )),
            (Some("phase"), Some(phase), None) if !phase.is_empty() => {
                Ok(Self::Phase(phase.into()))
            }
            (Some("end"), None, None) => Ok(Self::End),
            (Some("delete"), None, None) => Ok(Self::Delete),
            _ => Err("condition=TYPE[=STATUS], phase=PHASE, end or delete is wanted".into()),
        }
    }
}

/// Wait until a pod is in some state
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// The pod's name
    name: PodName,
    /// condition=Ready, condition=Initialized=False, phase=Succeeded, end (it is over), delete
    #[arg(long = "for", value_name = "WHAT", default_value = "condition=Ready")]
    what: For,
    /// How long at most; 0 only looks
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

impl Wait {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let end = self.timeout.map(|timeout| Instant::now() + timeout);
        let name = self.name.as_str();
        loop {
            let pod = match places.pods.open(&self.name) {
                Err(e) if self.what == For::Delete && e.errno() == Some(libc::ENOENT) => {
                    return self.met();
                }
                pod => pod?,
            };
            let follow = Follow::new(&pod)?;
            let observed = Observed::of(&pod, &places.store)?;
            if self.is_met(&observed) {
                return self.met();
            }
            let over = observed.life.finished() || observed.is_abandoned();
            if over && self.what != For::Delete {
                let phase = observed.life.phase().name();
                let step = format!("wait for pod {name:?}");
                return Err(
                    Error::new(step).hint(format!("it is over, or nobody supervises it: {phase}"))
                );
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::new(format!("wait for pod {name:?}: timed out")));
            }
            // A removal is not told by the journal of a pod that is over.
            let longest = match self.what {
                For::Delete => Some(
                    left.unwrap_or(Duration::MAX)
                        .min(Duration::from_millis(200)),
                ),
                _ => left,
            };
            follow.wait(longest)?;
        }
    }

    fn met(&self) -> Result<i32> {
        let _ = writeln!(std::io::stdout(), "{}: condition met", self.name);
        Ok(0)
    }

    fn is_met(&self, observed: &Observed) -> bool {
        let status = observed.pod.status.clone().unwrap_or_default();
        match &self.what {
            For::Condition(kind, wanted) => {
                let mut all = status.conditions.iter().flatten();
                let found = all.find(|c| c.type_.eq_ignore_ascii_case(kind));
                let is = found.map_or("False", |c| c.status.as_str());
                is.eq_ignore_ascii_case(wanted)
            }
            For::Phase(phase) => {
                let is = status.phase.as_deref().unwrap_or_default();
                is.eq_ignore_ascii_case(phase)
            }
            For::End => observed.life.finished(),
            For::Delete => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_written_as_for_kubectl() {
        let condition = |kind: &str, status: &str| Ok(For::Condition(kind.into(), status.into()));
        assert_eq!("condition=Ready".parse(), condition("Ready", "True"));
        assert_eq!("condition=Ready=false".parse(), condition("Ready", "false"));
        assert_eq!("phase=Failed".parse(), Ok(For::Phase("Failed".into())));
        for bad in ["", "Ready", "condition=", "phase=a=b", "end=1"] {
            assert!(bad.parse::<For>().is_err(), "{bad:?}");
        }
    }
}
