//! `runp pod attach`, and pods whose supervisor was killed.

use std::io::IsTerminal;

use super::run::{REFRESH, watched};
use super::{Places, warn};
use crate::error::{Context, Result};
use crate::pod::detach::{self, Begin};
use crate::pod::follow::Follow;
use crate::pod::lifecycle::Pod as Life;
use crate::pod::observe::Observed;
use crate::pod::progress::Progress;
use crate::pod::store::{PodDir, PodName};
use crate::pod::supervisor::{Supervisor, plan_of};
use crate::pod::{journal, observe};
use crate::state::boot_id;

/// Show how a pod comes along until it is over
///
/// As `run` does, and with its exit code. Ctrl-C ends the showing, not the pod, unless the pod is supervised here.
#[derive(Debug, clap::Args)]
pub(super) struct Attach {
    /// The pod's name
    name: PodName,
    /// Supervise the pod from here, if its supervisor was killed; then Ctrl-C stops it in order
    #[arg(long)]
    supervise: bool,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
}

impl Attach {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        if self.supervise && is_abandoned(&pod)? {
            let mut record = pod.record()?;
            let journal = journal::read(&pod.journal())?;
            let plan = plan_of(&mut record, &journal.pod.spec, &places.pods.claims())?;
            let supervisor =
                Supervisor::take_over(&places.pods, &places.store, pod, &record, plan)?;
            let (_, life) = watched(&journal.replay(), self.quiet, |watcher| {
                supervisor.go_on(watcher)
            })?;
            return Ok(life.exit_code());
        }
        let life = self.follow(&pod, places)?;
        Ok(life.exit_code())
    }

    fn follow(&self, pod: &PodDir, places: &Places) -> Result<Life> {
        let follow = Follow::new(pod)?;
        let record = journal::read(&pod.journal())?;
        let new = Life::new(record.pod.spec, record.created);
        let mut progress = Progress::new(&new, self.quiet);
        let live = !self.quiet && std::io::stderr().is_terminal();
        let mut shown = 0;
        loop {
            let observed = Observed::of(pod, &places.store)?;
            let mut n = 0;
            let life = observed.journal.visit(|_, event, life, _| {
                n += 1;
                if n > shown {
                    progress.observe(event, life);
                }
            });
            shown = n;
            progress.tick(observe::now());
            if life.finished() || observed.is_abandoned() {
                progress.finish(observe::now());
                if !life.finished() {
                    warn("nobody supervises the pod: runp pod attach --supervise goes on with it");
                }
                return Ok(life);
            }
            while !follow.wait(live.then_some(REFRESH))? {
                progress.tick(observe::now());
            }
        }
    }
}

/// Nobody carries its life out, and it can be gone on with.
fn is_abandoned(pod: &PodDir) -> Result<bool> {
    if pod.holder()?.is_some() || pod.record()?.boot_id != boot_id()? {
        return Ok(false);
    }
    Ok(!journal::read(&pod.journal())?.replay().finished())
}

/// Makes sure that there is somebody who can be asked: if the pod's supervisor was killed, another one goes on in its
/// place, in the background.
pub(super) fn supervised(places: &Places, pod: &PodDir) -> Result<()> {
    if !is_abandoned(pod)? {
        return Ok(());
    }
    let mut record = pod.record()?;
    let journal = journal::read(&pod.journal())?;
    let plan = plan_of(&mut record, &journal.pod.spec, &places.pods.claims())?;
    let name = pod.name();
    let take_over = || {
        let dir = places.pods.open(name)?;
        Supervisor::take_over(&places.pods, &places.store, dir, &record, plan)
    };
    detach::supervise(take_over, Begin::GoOn)
        .map(drop)
        .context(|| {
            format!(
                "take pod {:?} over, whose supervisor was killed",
                name.as_str()
            )
        })
}
