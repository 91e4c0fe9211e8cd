//! What changes of a pod while it lives: the plan is made anew, and the files that show something of it.

use super::{Supervisor, plan_of};
use crate::error::Result;
use crate::pod::apply::Update;
use crate::pod::lifecycle;
use crate::pod::plan::VolumeSource;
use crate::pod::store::Record;
use crate::pod::volumes::Volumes;

impl Supervisor<'_> {
    /// Takes an update: in the record first, so that who takes the pod over knows it.
    ///
    /// # Errors
    /// When the pod cannot be planned so: then nothing has changed. When files cannot be written: then they are the old ones.
    pub(super) fn apply(&mut self, by: u32) -> Result<()> {
        let mut record = self.dir.record()?;
        Update::read(&self.dir.update(by))?.put_into(&mut record);
        self.plan_anew(&mut record)?;
        // What the next container needs was made by the old plan.
        self.next = None;
        self.dir.write(&record)?;
        self.refresh_files()
    }

    /// The files that come from the manifest, if there are any yet.
    pub(super) fn refresh_files(&self) -> Result<()> {
        match self.life.volumes() {
            lifecycle::Volumes::Ready => {
                self.refresh(|source| matches!(source, VolumeSource::Files { .. }))
            }
            _ => Ok(()),
        }
    }

    /// Makes the plan anew.
    ///
    /// # Errors
    /// When it cannot be done; then the plan is as before.
    pub(super) fn plan_anew(&mut self, record: &mut Record) -> Result<()> {
        let plan = plan_of(record, self.life.spec(), &self.claims)?;
        self.plan = plan;
        Ok(())
    }

    /// Writes the files of volumes of this kind anew.
    pub(super) fn refresh(&self, which: impl Fn(&VolumeSource) -> bool) -> Result<()> {
        let volumes = Volumes::open(self.data.volumes())?;
        let mut plans = self.plan.volumes.iter().filter(|plan| which(&plan.source));
        plans.try_for_each(|plan| volumes.make(std::slice::from_ref(plan)))
    }
}
