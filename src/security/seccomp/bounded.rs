//! Compiling within bounds: over some small profiles libseccomp 2.6 runs for ever, and what it is given may be hostile.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};

use super::compile;
use crate::error::{Context, Error, Result};
use crate::spec::seccomp::Seccomp;
use crate::sys::process::{self, Exit};

/// Of processor time, in seconds; the default profile of Docker takes 0.024.
const LIMIT: u64 = 5;

/// Compiles a profile in a process of its own, which the kernel ends when it takes too long.
///
/// # Errors
/// As [`compile::compile`]; when it takes more than five seconds; `EDEADLK` in a process with threads.
pub(super) fn compile(profile: &Seccomp) -> Result<Vec<u8>> {
    let step = || "config.json: linux.seccomp: compile";
    let mut answer = File::from(memfd_create("seccomp", MemfdFlags::CLOEXEC).context(step)?);
    let child = process::fork(|| {
        let result = limit().and_then(|()| compile::compile(profile));
        // What cannot be written is missed by the parent.
        let _ = serde_json::to_vec(&result).map(|bytes| (&answer).write_all(&bytes));
        process::exit(0)
    })
    .context(step)?;
    match process::wait(&child.pidfd).context(step)? {
        Exit::Code(0) => {}
        Exit::Signal(signal) if i32::from(signal) == Signal::KILL.as_raw() => {
            let error = Error::new(format!("{}: took more than {LIMIT} s", step()));
            return Err(error.hint("use fewer rules with args for one system call"));
        }
        exit => return Err(Error::new(format!("{}: it ended with {exit:?}", step()))),
    }
    let mut bytes = Vec::new();
    answer
        .rewind()
        .and_then(|()| answer.read_to_end(&mut bytes))
        .context(step)?;
    serde_json::from_slice(&bytes).unwrap_or_else(|e| Err(Error::new(format!("{}: {e}", step()))))
}

fn limit() -> Result<()> {
    let step = || "limit the time to compile";
    set_parent_process_death_signal(Some(Signal::KILL)).context(step)?;
    let hard = getrlimit(Resource::Cpu).maximum;
    let limit = Some(hard.map_or(LIMIT, |hard| hard.min(LIMIT)));
    // At the hard limit the kernel kills; SIGXCPU, at the soft one, is blocked here with most signals.
    let limit = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Cpu, limit).context(step)
}
