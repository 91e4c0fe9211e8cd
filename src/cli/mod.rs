//! What people and callers type: parse, call the library, print. The errors of all verbs are printed here, once.

mod bundle;
mod checkpoint;
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
mod verb;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use self::verb::{Verb, Wanted, verb};
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

    fn store(&self) -> Result<Store> {
        self.root().map(Store::new)
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

const VERBS: &[Verb<Global>] = &[
    verb!(
        "checkpoint",
        "Write the processes of a container into files, with criu",
        checkpoint::CheckpointArguments,
        |checkpoint, global: &Global| checkpoint.run(&global.store()?, &global.criu)
    ),
    verb!(
        "create",
        "Create a container; its program is executed by `start`",
        bundle::Create,
        |create, global: &Global| create.run(&global.store()?, global.cgroups())
    ),
    verb!(
        "delete",
        "Remove a container",
        lifecycle::Delete,
        |delete, global: &Global| delete.run(&global.store()?)
    ),
    verb!(
        "events",
        "Print what a container uses and when it runs out of memory, a line of JSON each, until it ends",
        events::Events,
        |events, global: &Global| events.run(&global.store()?)
    ),
    verb!(
        "exec",
        "Run another program in a running container",
        exec::Exec,
        |exec, global: &Global| exec.run(&global.store()?)
    ),
    verb!(
        "features",
        "Print what a config.json can ask for, as JSON",
        query::Features,
        |features, _: &Global| features.run()
    ),
    verb!(
        "kill",
        "Send a signal to a container",
        lifecycle::Kill,
        |kill, global: &Global| kill.run(&global.store()?)
    ),
    verb!(
        "list",
        "List the containers",
        query::List,
        |list, global: &Global| list.run(&global.store()?)
    ),
    verb!(
        "pause",
        "Stop all processes of a container until it is resumed",
        lifecycle::Pause,
        |pause, global: &Global| pause.run(&global.store()?)
    ),
    pod::POD,
    verb!(
        "ps",
        "Show the processes of a container",
        query::Ps,
        |ps, global: &Global| ps.run(&global.store()?)
    ),
    verb!(
        "resume",
        "Let the processes of a paused container go on",
        lifecycle::Resume,
        |resume, global: &Global| resume.run(&global.store()?)
    ),
    verb!(
        "restore",
        "Make a container of a checkpoint, with criu",
        checkpoint::RestoreArguments,
        |restore, global: &Global| restore.run(&global.store()?, global)
    ),
    verb!(
        "run",
        "Create a container and start it",
        bundle::Run,
        |run, global: &Global| run.run(&global.store()?, global.cgroups())
    ),
    verb!(
        "spec",
        "Write a config.json to start from",
        bundle::SpecFile,
        |spec, _: &Global| spec.run()
    ),
    verb!(
        "start",
        "Execute the program of a created container",
        lifecycle::Start,
        |start, global: &Global| start.run(&global.store()?)
    ),
    verb!(
        "state",
        "Print the state of a container as JSON",
        query::State,
        |state, global: &Global| state.run(&global.store()?)
    ),
    verb!(
        "update",
        "Change the limits of a container",
        update::Update,
        |update, global: &Global| update.run(&global.store()?)
    ),
];

/// The command line's definition, of which its documentation is made.
pub fn command() -> clap::Command {
    command_with(Wanted::All)
}

fn command_with(wanted: Wanted<'_>) -> clap::Command {
    verb::define(Arguments::command(), VERBS, wanted)
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
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let sealed = match arguments.iter().any(|arg| SEALED.contains(&arg.as_bytes())) {
        true => self_exe::seal(),
        false => Ok(()),
    };
    let prepared = sealed.and_then(|()| entry::prepare().context(|| "open standard files"));
    if let Err(e) = prepared {
        eprintln!("runp: {e}");
        return 1;
    }
    let (matches, global) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(e) => {
            let _ = e.print();
            return i32::from(e.use_stderr());
        }
    };
    let result = logging::start(&global).and_then(|()| verb::run(&matches, VERBS, &global));
    result.unwrap_or_else(|e| {
        logging::report(&global, &e);
        failure(&matches)
    })
}

/// # Errors
/// What is wrong with the arguments, or the help or version that they ask for, which only a command with all verbs can tell.
fn parse(arguments: &[OsString]) -> clap::error::Result<(ArgMatches, Global)> {
    let meant = command_with(Wanted::Among(arguments));
    let matches = meant
        .try_get_matches_from(arguments)
        .or_else(|_| command().try_get_matches_from(arguments))?;
    let global = Arguments::from_arg_matches(&matches)?.global;
    Ok((matches, global))
}

/// As runc: a program that `exec` runs may well exit with 1 itself.
fn failure(matches: &ArgMatches) -> i32 {
    match matches.subcommand_name() {
        Some("exec") => 255,
        _ => 1,
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    fn parsed(line: &str) -> clap::error::Result<(ArgMatches, Global)> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&arguments)
    }

    #[test]
    fn a_word_that_is_also_a_verb_is_what_its_place_makes_it() {
        let (matches, global) = parsed("runp --log list exec kill run").unwrap();
        assert_eq!(global.log, Some("list".into()));
        let (verb, arguments) = matches.subcommand().unwrap();
        assert_eq!(verb, "exec");
        let exec: exec::Exec = verb::arguments(arguments).unwrap();
        assert!(format!("{exec:?}").contains("kill"), "{exec:?}");
        assert_eq!(
            parsed("runp pod rm web").unwrap().0.subcommand_name(),
            Some("pod")
        );
    }

    #[test]
    fn help_names_all_verbs_whichever_are_typed() {
        for line in [
            "runp --help run",
            "runp run --help pod",
            "runp pod --help run",
            "runp",
        ] {
            let help = parsed(line).unwrap_err().to_string();
            let verbs: &[&str] = match line {
                "runp run --help pod" => &["--bundle"],
                "runp pod --help run" => &["timeline", "delete", "why"],
                _ => &["checkpoint", "pod", "update"],
            };
            assert!(
                verbs.iter().all(|verb| help.contains(verb)),
                "{line}: {help}"
            );
        }
    }
}
