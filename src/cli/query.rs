//! Verbs that look: state, list, ps.

use clap::ValueEnum;

use super::{print, print_json};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Store};

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns
    Table,
    /// JSON
    Json,
}

/// Print the state of a container as JSON
#[derive(Debug, clap::Args)]
pub(super) struct State {
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl State {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        print_json(&container::state(store, &self.id)?)?;
        Ok(0)
    }
}

/// Print what a config.json can ask for, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Features {}

impl Features {
    pub(super) fn run(self) -> Result<i32> {
        print_json(&crate::spec::features())?;
        Ok(0)
    }
}

/// List the containers
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// table or json
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        if self.quiet {
            let ids = store.ids()?;
            print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
            return Ok(0);
        }
        let mut states = Vec::new();
        for (id, state) in container::list(store)? {
            match state {
                Ok(state) => states.push(state),
                Err(e) => log::warn!("container {:?}: {e}", id.as_str()),
            }
        }
        match self.format {
            Format::Json => print_json(&states)?,
            Format::Table => print(&table(&states))?,
        }
        Ok(0)
    }
}

fn table(states: &[container::State]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let rows = states.iter().map(|state| {
        [
            state.id.to_string(),
            state.pid.to_string(),
            state.status.as_str().into(),
            state.bundle.display().to_string(),
            state.created.clone(),
            state.owner.clone(),
        ]
    });
    super::table::table(header, rows)
}

/// Show the processes of a container
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// table or json
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Options for ps(1), whose table is shown; -ef without
    #[arg(
        value_name = "PS-OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

impl Ps {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        let pids = container::processes(store, &self.id)?;
        match self.format {
            Format::Json => print_json(&pids)?,
            Format::Table => print(&ps_table(&pids, self.options)?)?,
        }
        Ok(0)
    }
}

/// The lines of ps(1) that are about these processes.
fn ps_table(pids: &[i32], mut options: Vec<String>) -> Result<String> {
    if options.is_empty() {
        options.push("-ef".into());
    }
    let output = std::process::Command::new("ps")
        .args(&options)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context(|| "run ps")?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "ps {}: {}",
            options.join(" "),
            output.status
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    select_processes(&text, pids).ok_or_else(|| {
        Error::new("ps shows no PID column").hint("use options that show one, like -ef")
    })
}

fn select_processes(text: &str, pids: &[i32]) -> Option<String> {
    let mut lines = text.lines();
    let header = lines.next()?;
    let column = header.split_whitespace().position(|title| title == "PID")?;
    let is_ours = |line: &&str| {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let selected = std::iter::once(header).chain(lines.filter(is_ours));
    Some(selected.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_column_selects() {
        let ps = "UID   PID  PPID CMD\nroot    1     0 init\nroot   22     1 sleep 1\n";
        let selected = select_processes(ps, &[22]);
        assert_eq!(
            selected.as_deref(),
            Some("UID   PID  PPID CMD\nroot   22     1 sleep 1\n")
        );
        assert_eq!(select_processes("USER CMD\n", &[1]), None);
    }
}
