//! containerd's shim, `containerd-shim-runp-v2`: one process for each pod, which containerd asks to make containers in it.
//!
//! | step | where |
//! | --- | --- |
//! | containerd executes `start`: the pod's shim is found or made, and told where it listens | `start` |
//! | the shim: one thread and one loop over sockets, signals and terminals | `server` |
//! | frames arrive, calls are carried out | `ttrpc`, `connection`, `pod`, `task`, `sandbox` |
//! | processes get their fifos; terminals are copied | `io`, `terminal` |
//! | what happens is told to containerd, in order | `publisher` |
//! | containerd executes `delete` when the shim is gone | `delete` |
//!
//! Containers are made by the library, in this process: no runtime is executed. So it must stay with one thread, and is
//! sealed like `runp` itself (see [`crate::container::self_exe`]).

mod arguments;
mod bootstrap;
mod bundle;
mod connection;
mod delete;
mod ends;
mod info;
mod io;
mod journal;
mod logger;
mod options;
mod pod;
mod process;
mod proto;
mod publisher;
mod rootfs;
mod sandbox;
mod server;
mod start;
mod stats;
mod task;
mod terminal;
mod ttrpc;

use std::io::Write;

use crate::container::self_exe;
use crate::error::{Context, Error, Result};
use crate::sys::entry;
use crate::sys::start::{Stack, seal};

use arguments::{Action, Arguments};

/// Its name, as containerd derives it from the runtime's, `io.containerd.runp.v2`.
const NAME: &str = "containerd-shim-runp-v2";

/// What is done before the C library starts.
pub extern "C" fn before_main(stack: Stack) {
    // What `start` makes is a copy of itself.
    seal(stack, &[b"start"]);
}

/// Runs the program's arguments and returns its exit status.
pub fn main() -> i32 {
    let prepared = entry::prepare().context(|| "open standard files");
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let done = prepared
        .and_then(|()| arguments::parse(words))
        .and_then(|arguments| act(&arguments));
    match done {
        Ok(()) => 0,
        Err(e) => {
            // containerd shows it.
            eprintln!("{NAME}: {e}");
            1
        }
    }
}

fn act(arguments: &Arguments) -> Result<()> {
    match arguments.action {
        Action::Start => {
            self_exe::seal()?;
            start::start(arguments)
        }
        Action::Delete => print(&delete::delete(arguments)?),
        Action::Info => print(&info::info()),
        Action::Version => {
            let commit = option_env!("RUNP_COMMIT").unwrap_or("unknown");
            let version = env!("CARGO_PKG_VERSION");
            print(format!("{NAME}:\n  Version:  {version}\n  Revision: {commit}\n").as_bytes())
        }
    }
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|e| Error::sys("write to standard output", e))
}
