//! Verbs that look at pods: status, list, timeline.

use std::io::IsTerminal;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use serde_json::{Value, json};

use super::{Places, warn};
use crate::cli::table::table;
use crate::cli::{print, print_json};
use crate::error::{Context, Error, Result};
use crate::pod::events::events;
use crate::pod::lifecycle::Kind;
use crate::pod::observe::{self, Observed};
use crate::pod::progress::printable;
use crate::pod::status::{Summary, summary};
use crate::pod::store::PodName;
use crate::pod::timeline::{self, text::Glyphs};

/// The width of a timeline that is written to a file.
const WIDTH: usize = 100;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// A Kubernetes Pod with its status
    Json,
    /// The same as YAML
    Yaml,
}

/// Show a pod and its containers
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// The pod's name
    name: PodName,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Status {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let observed = Observed::of(&places.pods.open(&self.name)?, &places.store)?;
        if observed.is_abandoned() {
            let name = &self.name;
            warn(match observed.is_alive() {
                true => format!(
                    "no supervisor runs for this pod: nothing of it is started or restarted any more. Go on with it: \
                     runp pod attach --supervise {name}, or end it: runp pod stop {name}"
                ),
                false => format!(
                    "this pod's supervisor died, and nothing of it runs any more. Go on with it: \
                     runp pod attach --supervise {name}, or remove it: runp pod delete {name}"
                ),
            });
        }
        let pod = &observed.pod;
        match self.output {
            Format::Table => print(&status_table(&observed, pod))?,
            Format::Json => print_json(&typed(pod)?)?,
            Format::Yaml => {
                let yaml = serde_saphyr::to_string(&typed(pod)?)
                    .map_err(|e| Error::new(format!("write as YAML: {e}")))?;
                print(&yaml)?;
            }
        }
        Ok(0)
    }
}

/// As JSON, with `apiVersion` and `kind`.
fn typed(pod: &Pod) -> Result<Value> {
    serde_json::to_value(pod).map_err(|e| Error::new(format!("write the pod's status: {e}")))
}

fn pod_row(name: &str, pod: &Pod) -> [String; 5] {
    let Summary {
        ready,
        status,
        restarts,
        age,
    } = summary(pod, observe::now());
    [name.into(), ready, status, restarts, age]
}

const POD_COLUMNS: [&str; 5] = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"];

fn status_table(observed: &Observed, pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut text = table(POD_COLUMNS, [pod_row(name, pod)]);
    let status = pod.status.iter();
    let inits = status
        .clone()
        .flat_map(|s| s.init_container_statuses.iter().flatten());
    let apps = status.flat_map(|s| s.container_statuses.iter().flatten());
    let kinds = observed.life.spec().containers.iter().map(|c| c.kind);
    let rows: Vec<_> = inits.chain(apps).zip(kinds).collect();
    text.push('\n');
    text += &table(
        ["CONTAINER", "KIND", "STATE", "EXIT", "RESTARTS"],
        rows.iter()
            .map(|(status, kind)| container_row(status, *kind)),
    );
    let reason = pod.status.as_ref().and_then(|s| s.message.clone());
    let pod_message = reason.map(|message| format!("\n{name}: {}\n", message.trim_end()));
    text.extend(pod_message);
    for (status, _) in rows {
        if let Some(message) = message(status) {
            let message: Vec<String> = message.lines().map(printable).collect();
            text += &format!("\n{}: {}\n", status.name, message.join("\n  "));
        }
    }
    text
}

fn container_row(status: &ContainerStatus, kind: Kind) -> [String; 5] {
    let kind = match kind {
        Kind::Init => "init",
        Kind::Sidecar => "sidecar",
        Kind::App => "app",
    };
    let none = ContainerState::default();
    let state = status.state.as_ref().unwrap_or(&none);
    let last = status.last_state.as_ref().unwrap_or(&none);
    let (word, exit) = match (&state.running, &state.terminated, &state.waiting) {
        (Some(_), ..) => ("Running".to_owned(), None),
        (_, Some(ended), _) => (
            ended.reason.clone().unwrap_or_default(),
            Some(ended.exit_code),
        ),
        (.., waiting) => {
            let reason = waiting.as_ref().and_then(|w| w.reason.clone());
            let exit = last.terminated.as_ref().map(|ended| ended.exit_code);
            (reason.unwrap_or_else(|| "Waiting".into()), exit)
        }
    };
    let exit = exit.map_or_else(String::new, |code| code.to_string());
    [
        status.name.clone(),
        kind.into(),
        word,
        exit,
        status.restart_count.to_string(),
    ]
}

fn message(status: &ContainerStatus) -> Option<String> {
    let of = |state: &Option<ContainerState>| {
        let state = state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|w| w.message.clone());
        waiting.or_else(|| state.terminated.as_ref().and_then(|t| t.message.clone()))
    };
    of(&status.state).or_else(|| of(&status.last_state))
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ListFormat {
    /// For people
    Table,
    /// A Kubernetes List of Pods with their status
    Json,
}

/// List the pods
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
    /// Only the names
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let names = places.pods.names()?;
        if self.quiet {
            print(
                &names
                    .iter()
                    .map(|name| format!("{name}\n"))
                    .collect::<String>(),
            )?;
            return Ok(0);
        }
        let mut pods = Vec::new();
        for name in names {
            let observed = places.pods.open(&name);
            match observed.and_then(|pod| Observed::of(&pod, &places.store)) {
                Ok(observed) => pods.push((name, Some(observed.pod))),
                // Removed meanwhile.
                Err(_) if places.pods.open(&name).is_err() => {}
                // One that is broken hides none of the others.
                Err(e) => {
                    warn(e);
                    pods.push((name, None));
                }
            }
        }
        match self.output {
            ListFormat::Table => print(&table(
                POD_COLUMNS,
                pods.iter().map(|(name, pod)| match pod {
                    Some(pod) => pod_row(name.as_str(), pod),
                    None => [name.as_str(), "", "Unknown", "", ""].map(String::from),
                }),
            ))?,
            ListFormat::Json => {
                let pods = pods.iter().filter_map(|(_, pod)| pod.as_ref());
                let items = pods.map(typed).collect::<Result<Vec<_>>>()?;
                print_json(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
            }
        }
        Ok(0)
    }
}

/// Show the pod's life on a time axis
#[derive(Debug, clap::Args)]
pub(super) struct Timeline {
    /// The pod's name
    name: PodName,
    /// Draw it as a picture into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write it as a page that needs nothing else into this file, with every run and event
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write it in the Chrome trace format into this file, for Perfetto
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

impl Timeline {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let observed = Observed::of(&places.pods.open(&self.name)?, &places.store)?;
        let timeline = timeline::Timeline::of(&observed.journal, observed.seen_until());
        let write = |path: &PathBuf, text: String| {
            std::fs::write(path, text).context(|| format!("write {}", path.display()))
        };
        if let Some(path) = &self.svg {
            write(path, timeline::svg::render(&timeline))?;
        }
        if let Some(path) = &self.html {
            let events = events(&observed.journal);
            write(
                path,
                timeline::html::render(&timeline, &observed.journal, &events),
            )?;
        }
        if let Some(path) = &self.trace {
            write(path, timeline::trace::render(&timeline).to_string())?;
        }
        if self.svg.is_none() && self.html.is_none() && self.trace.is_none() {
            let glyphs = Glyphs::from_env(|name| std::env::var(name).ok());
            print(&timeline::text::render(&timeline, width(), glyphs))?;
        }
        Ok(0)
    }
}

fn width() -> usize {
    let terminal = std::io::stdout().is_terminal();
    let size = terminal.then(|| rustix::termios::tcgetwinsize(rustix::stdio::stdout()));
    match size {
        Some(Ok(size)) if size.ws_col > 0 => size.ws_col.into(),
        _ => WIDTH,
    }
}
