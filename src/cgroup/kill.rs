//! Kills everything in a cgroup, also what forks faster than a list of it can be read.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::group::pids_below;
use super::wait::{self, Deadline};
use super::{Cgroup, file};
use crate::error::{Error, Result};

impl Cgroup {
    /// Kills all processes in it and in the cgroups below, frozen ones too, and waits until they have ended.
    ///
    /// v2 does so in one step, `cgroup.kill` (Linux 5.14), on a hybrid machine too. On v1 they are frozen, so that
    /// none forks away, then killed and thawed.
    ///
    /// # Errors
    /// Processes that did not end in time, or that runp may not signal.
    pub fn kill(&self) -> Result<()> {
        self.kill_all()
            .map_err(|e| e.step(format!("kill cgroup {}", self.path.display())))
    }

    fn kill_all(&self) -> Result<()> {
        let deadline = Deadline::new();
        if let Some(dir) = self.v2() {
            // Most often the processes have ended on their own by now.
            let mut empty = wait::event(&dir, "populated", 0, Deadline::now())?;
            if !empty {
                match file::write(dir.join("cgroup.kill"), "1") {
                    Ok(()) => {
                        // The freezer of v1 holds back even SIGKILL.
                        self.thaw()?;
                        empty = wait::event(&dir, "populated", 0, deadline)?;
                    }
                    // Gone meanwhile, or a kernel before 5.14.
                    Err(Errno::NOENT | Errno::NODEV) => {}
                    Err(e) => {
                        return Err(Error::sys(
                            format!("write {}/cgroup.kill", dir.display()),
                            e,
                        ));
                    }
                }
            }
            if empty && self.layout.v1.is_empty() {
                return Ok(());
            }
        }
        loop {
            let pids = self.members()?;
            if pids.is_empty() {
                return Ok(());
            }
            if deadline.is_over() {
                return Err(Error::new(format!("processes {pids:?} do not end"))
                    .hint("one may wait for a disk: see its state in /proc/PID/status"));
            }
            self.kill_once(deadline)?;
        }
    }

    /// Freezes, kills who is there, thaws, and waits for them.
    fn kill_once(&self, deadline: Deadline) -> Result<()> {
        let frozen = match (self.layout.v1_with("freezer"), self.v2()) {
            (Some(_), _) => self.freeze_v1(Deadline::soon()),
            (None, Some(dir)) => file::write(dir.join("cgroup.freeze"), "1")
                .map(|()| true)
                .map_err(|e| Error::sys("freeze", e)),
            (None, None) => Ok(false),
        };
        if let Err(e) = frozen {
            // Without it the loop around this is a race, which a fork bomb can win for a while.
            log::debug!("kill without a freezer: {e}");
        }
        let killed = self.signal_all();
        self.thaw()?;
        wait::ended(&killed?, deadline);
        Ok(())
    }

    fn signal_all(&self) -> Result<Vec<i32>> {
        let open = |pid: &i32| pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok();
        let processes: Vec<_> = self
            .members()?
            .iter()
            .filter_map(|pid| Some((*pid, open(pid)?)))
            .collect();
        // Read again: a pid that is still listed now belongs to the process that was opened, not to a stranger.
        let still = self.members()?;
        let mut killed = Vec::new();
        for (pid, process) in processes {
            if !still.contains(&pid) {
                continue;
            }
            match pidfd_send_signal(&process, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => killed.push(pid),
                Err(e) => return Err(Error::sys(format!("kill process {pid}"), e)),
            }
        }
        Ok(killed)
    }

    /// The processes in v2 and in the first v1 hierarchy that has the cgroup. Processes are put into the hierarchies in
    /// order, and cgroups made and removed in that order, so a runtime that was killed half-way left none elsewhere.
    fn members(&self) -> Result<Vec<i32>> {
        let mut pids = match self.v2() {
            Some(dir) => pids_below(&dir)?,
            None => Vec::new(),
        };
        let v1 = (0..self.layout.v1.len()).map(|i| self.dir(Some(i)));
        if let Some(dir) = v1.into_iter().find(|dir| dir.exists()) {
            pids.extend(pids_below(&dir)?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}
