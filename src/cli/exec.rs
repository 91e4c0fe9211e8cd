//! `runp exec`.

use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

use super::hand_over::HandOver;
use super::{inherited, terminal};
use crate::cgroup::Below;
use crate::container::{self, ExecRequest, Stdio};
use crate::error::{Error, Result};
use crate::spec::{load, plan_process};
use crate::state::{ContainerId, Store};

/// Run another program in a running container
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    #[command(flatten)]
    hand_over: HandOver,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// NAME=VALUE; can be given again
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// UID[:GID]
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// More groups; can be given again
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// The `process` of a config.json, in a file of its own, instead of all the other options
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return once the program runs
    #[arg(short, long)]
    detach: bool,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// A capability to add; can be given again
    #[arg(short, long, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// Let it inherit N descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// Into a cgroup below the container's own, which exists; with v1 a controller can be given, more than once
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Even if the container is paused
    #[arg(long)]
    ignore_paused: bool,
    /// Accepted for callers of runc; runp is no subreaper
    #[arg(long, hide = true)]
    no_subreaper: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Exec {
    /// A program in a container, with the credentials of the container's own process.
    pub(super) fn of(id: ContainerId, tty: bool, args: Vec<String>) -> Self {
        Self {
            hand_over: HandOver::default(),
            cwd: None,
            env: Vec::new(),
            tty,
            user: None,
            additional_gids: Vec::new(),
            process: None,
            detach: false,
            process_label: None,
            apparmor: None,
            no_new_privs: false,
            cap: Vec::new(),
            preserve_fds: 0,
            cgroup: Vec::new(),
            ignore_paused: false,
            no_subreaper: false,
            id,
            args,
        }
    }

    pub(super) fn run(self, store: &Store) -> Result<i32> {
        let spec = match &self.process {
            Some(path) => load::load_process(path)?,
            None => self.process_of(store)?,
        };
        let mut errors = Vec::new();
        let planned = plan_process(&spec, "process", &mut errors);
        Error::all(format!("exec in container {:?}", self.id.as_str()), errors)?;
        self.hand_over
            .check_terminal(planned.terminal, self.detach)?;
        let request = ExecRequest {
            id: &self.id,
            process: &planned,
            stdio: if planned.terminal {
                Stdio::Terminal
            } else {
                Stdio::Inherit
            },
            ignore_paused: self.ignore_paused,
            files: inherited::check(0, self.preserve_fds)?,
            cgroup: Below::parse(&self.cgroup)?,
        };
        let foreground = match self.detach {
            true => None,
            false => Some(terminal::Foreground::prepare()?),
        };
        let mut created = container::exec(store, &request)?;
        self.hand_over
            .give(&created, "setns")
            .map_err(|e| container::end(&created.pidfd, e))?;
        let Some(foreground) = foreground else {
            return Ok(0);
        };
        let console = match self.hand_over.console_socket {
            Some(_) => None,
            None => created.console.take(),
        };
        let exit = foreground.wait(&created.pidfd, console, None)?;
        Ok(exit.code())
    }

    /// The container's own process, with what the options change.
    fn process_of(&self, store: &Store) -> Result<Process> {
        let mut process = store.look(&self.id)?.record()?.process;
        if self.args.is_empty() {
            return Err(Error::new("no program is given")
                .hint("runp exec CONTAINER-ID PROGRAM [ARGUMENTS]"));
        }
        process.set_args(Some(self.args.clone()));
        process.set_terminal(Some(self.tty));
        process.set_console_size(None);
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if !self.env.is_empty() {
            let mut env = process.env().clone().unwrap_or_default();
            env.extend(self.env.iter().cloned());
            process.set_env(Some(env));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        self.set_user(&mut process)?;
        self.add_capabilities(&mut process)?;
        Ok(process)
    }

    fn set_user(&self, process: &mut Process) -> Result<()> {
        let user = process.user_mut();
        if let Some(given) = &self.user {
            let (uid, gid) = parse_user(given)?;
            user.set_uid(uid);
            if let Some(gid) = gid {
                user.set_gid(gid);
            }
        }
        if !self.additional_gids.is_empty() {
            let mut gids = user.additional_gids().clone().unwrap_or_default();
            gids.extend(&self.additional_gids);
            user.set_additional_gids(Some(gids));
        }
        Ok(())
    }

    /// To the bounding, effective and permitted set; never to the inheritable one (CVE-2022-29162).
    fn add_capabilities(&self, process: &mut Process) -> Result<()> {
        if self.cap.is_empty() {
            return Ok(());
        }
        let added: Vec<Capability> = self
            .cap
            .iter()
            .map(|name| {
                serde_json::from_value(name.clone().into()).map_err(|_| {
                    Error::new(format!("--cap: unknown capability {name:?}"))
                        .hint("see capabilities(7)")
                })
            })
            .collect::<Result<_>>()?;
        let mut all = match process.capabilities().clone() {
            Some(all) => all,
            None => no_capabilities()?,
        };
        let extended = |set: &Option<std::collections::HashSet<Capability>>| {
            let mut set = set.clone().unwrap_or_default();
            set.extend(added.iter().copied());
            Some(set)
        };
        all.set_bounding(extended(all.bounding()));
        all.set_effective(extended(all.effective()));
        all.set_permitted(extended(all.permitted()));
        process.set_capabilities(Some(all));
        Ok(())
    }
}

/// Not oci-spec's `Default`, which has inheritable and ambient ones.
fn no_capabilities() -> Result<LinuxCapabilities> {
    serde_json::from_str("{}").map_err(|e| Error::new(format!("capabilities: {e}")))
}

/// Numbers only: names would be looked up in whose passwd? (CVE-2016-3697)
fn parse_user(given: &str) -> Result<(u32, Option<u32>)> {
    let number = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let parsed = match given.split_once(':') {
        Some((uid, gid)) => number(uid).zip(number(gid).map(Some)),
        None => number(given).map(|uid| (uid, None)),
    };
    parsed.ok_or_else(|| Error::new(format!("--user {given:?}")).hint("UID or UID:GID, as numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_numbers() {
        assert_eq!(parse_user("1"), Ok((1, None)));
        assert_eq!(parse_user("1000:5"), Ok((1000, Some(5))));
        for bad in [
            "",
            "+1",
            "-1",
            "root",
            "1:",
            ":1",
            "4294967296",
            "1:2:3",
            " 1",
        ] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }
}
