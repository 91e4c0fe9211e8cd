//! What the sandbox is connected to.

use super::Supervisor;
use crate::container;
use crate::error::Result;
use crate::pod::plan::VolumeSource;
use crate::pod::{network, sandbox};
use crate::sys::process::Child;

impl Supervisor<'_> {
    /// Connects the network namespace that this pause holds, if it has to be; from then on the plan knows the pod's
    /// addresses.
    ///
    /// # Errors
    /// What could not be done; then pause is gone.
    pub(super) fn connect(&mut self, pause: &Child) -> std::result::Result<(), String> {
        if !self.plan.sandbox.connection.is_attached() {
            return Ok(());
        }
        self.try_connect(pause).map_err(|e| {
            let removed = || sandbox::remove_cgroup(&self.plan.sandbox.cgroup);
            let e = container::end(&pause.pidfd, e);
            e.and_cleanup(removed()).to_string()
        })
    }

    fn try_connect(&mut self, pause: &Child) -> Result<()> {
        network::attach(&self.dir, pause.pid)?;
        self.plan_anew(&mut self.dir.record()?)?;
        self.refresh(|source| matches!(source, VolumeSource::Etc(_)))
    }

    /// Undoes it.
    pub(super) fn disconnect(&self) -> Result<()> {
        match self.plan.sandbox.connection.is_attached() {
            true => network::detach(&self.dir, &mut self.dir.record()?),
            false => Ok(()),
        }
    }

    /// Of a pod that is taken over: nobody has looked after its network.
    pub(super) fn check_network(&self) {
        let attached = self.plan.sandbox.connection.is_attached() && self.pause.is_some();
        let checked = || network::check(&self.dir, &self.dir.record()?);
        if attached && let Err(e) = checked() {
            log::warn!(
                "pod {}: its network is not as it was made: {e}",
                self.plan.name
            );
        }
    }
}
