//! `runp pod logs`.

use std::io::Write;

use super::Places;
use crate::error::Result;
use crate::pod::lifecycle::State;
use crate::pod::logs::{self, Show, choose_run};
use crate::pod::observe::Observed;
use crate::pod::store::PodName;

/// Print what a container has written
///
/// Also of init containers that have ended, and of a pod that is over.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// The pod's name
    name: PodName,
    /// Which container; else the one that the annotation kubectl.kubernetes.io/default-container names, or the first app
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Go on until the container will not write any more
    #[arg(short, long)]
    follow: bool,
    /// Of the run before the last one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Begin each line with the time at which it was written
    #[arg(long)]
    timestamps: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

impl Logs {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        let observed = Observed::of(&pod, &places.store)?;
        let (index, name) = observed.container(self.container.as_deref())?;
        let dir = pod.logs(&name);
        let waiting = observed.waiting(&name);
        let container = &observed.life.containers()[index.0];
        let names = (self.name.as_str(), name.as_str());
        let run = choose_run(&dir, names, container, &waiting, self.previous)?;
        let show = Show {
            timestamps: self.timestamps,
            tail: self.tail,
        };
        let out = std::io::stdout().lock();
        if !self.follow {
            logs::print(&dir, run, show, out)?;
            return Ok(0);
        }
        let over = || {
            let observed = Observed::of(&pod, &places.store)?;
            let ended = observed.life.containers()[index.0].state == State::Terminated;
            Ok(ended || observed.life.finished() || observed.is_abandoned())
        };
        logs::follow(&dir, run, show, &pod.journal(), over, out)?;
        std::io::stdout().flush().ok();
        Ok(0)
    }
}
