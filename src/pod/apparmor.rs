//! `appArmorProfile: {type: RuntimeDefault}`: a profile of runp's own, which is loaded when the first pod needs it, as
//! containerd and Podman do.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::plan::PodPlan;
use crate::container::host_program::{self, HostProgram};
use crate::error::{Context, Error, Result};
use crate::sys::process::Exit;

/// Its name in the kernel.
pub const PROFILE: &str = "runp-default";

const TEXT: &str = include_str!("apparmor.profile");

/// The profiles that the kernel has, each with its mode: `runp-default (enforce)`.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// To compile it takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// apparmor_parser(8), if it is there.
pub fn parser() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut all = std::env::split_paths(&path).map(|dir| dir.join("apparmor_parser"));
    all.find(|program| program.is_file())
}

/// Makes sure that the kernel has the profile, if the pod needs it.
///
/// # Errors
/// What the parser says.
pub fn load_for(plan: &PodPlan) -> Result<()> {
    let mut processes = plan
        .containers
        .iter()
        .filter_map(|c| c.spec.process().as_ref());
    let needed = processes.any(|process| process.apparmor_profile().as_deref() == Some(PROFILE));
    match needed && !is_loaded() {
        true => load().context(|| format!("load the AppArmor profile {PROFILE}")),
        false => Ok(()),
    }
}

fn is_loaded() -> bool {
    let loaded = std::fs::read_to_string(LOADED).unwrap_or_default();
    let mut names = loaded.lines().filter_map(|line| line.split_once(" ("));
    names.any(|(name, _)| name == PROFILE)
}

fn load() -> Result<()> {
    let program = parser().ok_or_else(missing)?;
    let path = CString::new(program.as_os_str().as_bytes())
        .map_err(|e| Error::new(format!("{}: {e}", program.display())))?;
    let step = || "run apparmor_parser";
    let input = host_program::memory(TEXT.as_bytes()).context(step)?;
    let output = host_program::memory(b"").context(step)?;
    let exit = HostProgram {
        path: &path,
        // Replace it if it is there meanwhile; nothing is kept of it on the disk.
        args: &[c"apparmor_parser".into(), c"-Kr".into()],
        env: &[],
        directory: None,
        timeout: Some(PATIENCE),
        ends_with_us: false,
        cgroup: None,
        first: None,
    }
    .run([input.as_fd(), output.as_fd(), output.as_fd()])
    .context(step)?;
    match exit {
        Some(Exit::Code(0)) => Ok(()),
        _ => Err(Error::new(step()).hint(format!("it said: {}", host_program::tail(output)))),
    }
}

/// What to do where there is no parser.
pub fn missing() -> Error {
    Error::new("apparmor_parser is not there to load a default profile")
        .hint("install it: the Debian package is apparmor")
}
