//! What people and callers type: parse, call the library, print. The errors of all verbs are printed here, once.

mod bundle;
mod checkpoint;
mod deferred;
mod events;
mod exec;
mod hand_over;
mod inherited;
mod lifecycle;
mod logging;
mod notify;
mod pod;
mod query;
mod table;
mod terminal;
mod update;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::deferred::Deferred;
use crate::container::self_exe;
use crate::error::{Context, Error, Result};
use crate::spec;
use crate::state::Store;
use crate::sys::start::{self, Stack};
use crate::sys::{entry, ns};

/// runc for pods: runs OCI containers, and Kubernetes pods without Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "runp", version = version(), disable_help_subcommand = true, disable_version_flag = true)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Command,
}

/// As runc prints it, which Docker and containerd parse. `scripts/build` knows the commit.
fn version() -> String {
    let commit = option_env!("RUNP_COMMIT").map(|commit| format!("commit: {commit}\n"));
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "version {version}\n{}spec: {}",
        commit.unwrap_or_default(),
        spec::VERSION
    )
}

/// What holds for every verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Directory that holds the state of containers and pods [default: /run/runp, or for a plain user
    /// $XDG_RUNTIME_DIR/runp]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory that holds the volumes of pods and what their containers write
    #[arg(long, value_name = "DIR", default_value = crate::pod::data::DATA_ROOT)]
    data_root: PathBuf,
    /// Append the log to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How the log is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: logging::Format,
    /// Log what is done, too
    #[arg(long)]
    debug: bool,
    /// The criu program, for checkpoint and restore
    #[arg(long, value_name = "PATH", default_value = "criu")]
    criu: PathBuf,
    /// Whether a container goes without a cgroup, if it asks for none and its user may not make one
    #[arg(long, value_name = "BOOL|auto", default_value = "auto", value_parser = rootless)]
    rootless: Rootless,
    /// Let systemd make the cgroups; linux.cgroupsPath is slice:prefix:name then
    #[arg(long)]
    systemd_cgroup: bool,
}

impl Global {
    /// Where the state is.
    pub(crate) fn root(&self) -> Result<PathBuf> {
        self.root
            .as_deref()
            .map_or_else(|| absolute(&default_root()), absolute)
    }

    fn cgroups(&self) -> Cgroups {
        Cgroups {
            rootless: self.rootless.0,
            systemd: self.systemd_cgroup,
        }
    }
}

/// How containers get their cgroups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cgroups {
    rootless: Option<bool>,
    systemd: bool,
}

/// `--rootless`: `None` is auto.
#[derive(Debug, Clone, Copy)]
struct Rootless(Option<bool>);

/// As runc: what Go takes for a boolean, or "auto".
fn rootless(value: &str) -> std::result::Result<Rootless, String> {
    match value {
        "auto" => Ok(Rootless(None)),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Rootless(Some(true))),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Rootless(Some(false))),
        _ => Err("neither true, false nor auto".into()),
    }
}

/// A plain user's own directory, also of one who is root in a user namespace, as in runc.
fn default_root() -> PathBuf {
    let system = || PathBuf::from("/run/runp");
    let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) else {
        return system();
    };
    // The environment of root itself is not asked any further.
    let is_root = std::env::var_os("USER").is_none_or(|user| user == "root");
    let uid_0 = rustix::process::geteuid().is_root();
    match (uid_0 && is_root) || !ns::is_rootless() {
        true => system(),
        false => PathBuf::from(runtime).join("runp"),
    }
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it
enum Command {
    /// Write the processes of a container into files, with criu
    Checkpoint(Deferred<checkpoint::CheckpointArguments>),
    /// Create a container; its program is executed by `start`
    Create(Deferred<bundle::Create>),
    /// Remove a container
    Delete(Deferred<lifecycle::Delete>),
    /// Print what a container uses and when it runs out of memory, a line of JSON each, until it ends
    Events(Deferred<events::Events>),
    /// Run another program in a running container
    Exec(Deferred<exec::Exec>),
    /// Print what a config.json can ask for, as JSON
    Features(Deferred<query::Features>),
    /// Send a signal to a container
    Kill(Deferred<lifecycle::Kill>),
    /// List the containers
    List(Deferred<query::List>),
    /// Stop all processes of a container until it is resumed
    Pause(Deferred<lifecycle::Pause>),
    /// Run Kubernetes pods without Kubernetes
    Pod(Deferred<pod::Pod>),
    /// Show the processes of a container
    Ps(Deferred<query::Ps>),
    /// Let the processes of a paused container go on
    Resume(Deferred<lifecycle::Resume>),
    /// Make a container of a checkpoint, with criu
    Restore(Deferred<checkpoint::RestoreArguments>),
    /// Create a container and start it
    Run(Deferred<bundle::Run>),
    /// Write a config.json to start from
    Spec(Deferred<bundle::SpecFile>),
    /// Execute the program of a created container
    Start(Deferred<lifecycle::Start>),
    /// Print the state of a container as JSON
    State(Deferred<query::State>),
    /// Change the limits of a container
    Update(Deferred<update::Update>),
}

/// The command line's definition, of which its documentation is made.
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Verbs that make processes in containers.
const SEALED: [&[u8]; 3] = [b"create", b"run", b"exec"];

/// What is done before the C library starts.
pub extern "C" fn before_main(stack: Stack) {
    // Before anything is parsed, because it executes the program again. A container that is called "run" costs time, no more.
    start::seal(stack, &SEALED);
}

/// Runs the program's arguments and returns its exit status.
pub fn main() -> i32 {
    let sealed = match std::env::args_os().any(|arg| SEALED.contains(&arg.as_bytes())) {
        true => self_exe::seal(),
        false => Ok(()),
    };
    let prepared = sealed.and_then(|()| entry::prepare().context(|| "open standard files"));
    if let Err(e) = prepared {
        eprintln!("runp: {e}");
        return 1;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            let _ = e.print();
            return i32::from(e.use_stderr());
        }
    };
    let global = arguments.global;
    // As runc: a program may well exit with 1 itself.
    let failure = match &arguments.command {
        Command::Exec(_) => 255,
        _ => 1,
    };
    let result = logging::start(&global)
        .and_then(|()| check(&global, &arguments.command))
        .and_then(|()| run(&global, arguments.command));
    result.unwrap_or_else(|e| {
        logging::report(&global, &e);
        failure
    })
}

fn check(global: &Global, command: &Command) -> Result<()> {
    match command {
        Command::Pod(_) if global.systemd_cgroup => Err(Error::new(
            "--systemd-cgroup: a pod's cgroups are made by runp itself",
        )
        .hint("leave it out")),
        _ => Ok(()),
    }
}

fn run(global: &Global, command: Command) -> Result<i32> {
    let store = Store::new(global.root()?);
    match command {
        Command::Checkpoint(Deferred(checkpoint)) => checkpoint.run(&store, &global.criu),
        Command::Create(Deferred(create)) => create.run(&store, global.cgroups()),
        Command::Delete(Deferred(delete)) => delete.run(&store),
        Command::Events(Deferred(events)) => events.run(&store),
        Command::Exec(Deferred(exec)) => exec.run(&store),
        Command::Features(Deferred(features)) => features.run(),
        Command::Kill(Deferred(kill)) => kill.run(&store),
        Command::List(Deferred(list)) => list.run(&store),
        Command::Pause(Deferred(pause)) => pause.run(&store),
        Command::Pod(Deferred(pod)) => pod.run(global),
        Command::Ps(Deferred(ps)) => ps.run(&store),
        Command::Resume(Deferred(resume)) => resume.run(&store),
        Command::Restore(Deferred(restore)) => restore.run(&store, global),
        Command::Run(Deferred(run)) => run.run(&store, global.cgroups()),
        Command::Spec(Deferred(spec)) => spec.run(),
        Command::Start(Deferred(start)) => start.run(&store),
        Command::State(Deferred(state)) => state.run(&store),
        Command::Update(Deferred(update)) => update.run(&store),
    }
}

/// The path from `/`, without looking at what is there.
pub(crate) fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::sys(format!("find {}", path.display()), e))
}

/// Prints a line to standard output. A reader that has gone is no error: it has seen what it wanted.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::sys("write to standard output", e))
        }
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(format!("write as JSON: {e}")))?;
    print(&(json + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
