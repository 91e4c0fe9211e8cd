//! Verbs that change a pod: start, stop, delete.

use std::time::Duration;

use super::attach::supervised;
use super::{Places, seconds};
use crate::error::{Context, Error, Result};
use crate::pod::control::{self, Request};
use crate::pod::delete;
use crate::pod::observe::Observed;
use crate::pod::store::PodName;

/// Start the containers of a created pod
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// The pod's name
    name: PodName,
}

impl Start {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        supervised(places, &pod)?;
        let step = || format!("start pod {:?}", self.name.as_str());
        match control::ask(pod.as_fd(), Request::Start, control::PATIENCE).context(step)? {
            Some(_) => Ok(0),
            None => Err(Error::new(step()).hint(format!(
                "it is over, or its supervisor died; remove it and create it again: runp pod delete {}",
                self.name
            ))),
        }
    }
}

/// Run a pod's containers again, init containers first, in the same sandbox
///
/// They are ended in order, as by `stop`; volumes, network and logs stay.
#[derive(Debug, clap::Args)]
pub(super) struct Restart {
    /// The pod's name
    name: PodName,
}

impl Restart {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        ask(places, &self.name, "restart", Request::Rerun { from: 0 })
    }
}

/// Run a part of a pod's containers again, in the same sandbox
#[derive(Debug, clap::Args)]
pub(super) struct Rerun {
    /// The pod's name
    name: PodName,
    /// This container and all after it, in the manifest's order: it is an init container, mostly
    #[arg(
        long,
        value_name = "CONTAINER",
        conflicts_with = "only_failed",
        required_unless_present = "only_failed"
    )]
    from: Option<String>,
    /// What has failed, at once, whatever its back-off
    #[arg(long)]
    only_failed: bool,
}

impl Rerun {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let request = match &self.from {
            Some(from) => {
                let pod = places.pods.open(&self.name)?;
                let observed = Observed::of(&pod, &places.store)?;
                let (index, _) = observed.container(Some(from))?;
                Request::Rerun { from: index.0 }
            }
            None => Request::Retry,
        };
        ask(places, &self.name, "rerun", request)
    }
}

/// Asks the supervisor of a pod that is not over.
fn ask(places: &Places, name: &PodName, verb: &str, request: Request) -> Result<i32> {
    let pod = places.pods.open(name)?;
    supervised(places, &pod)?;
    let step = || format!("{verb} pod {:?}", name.as_str());
    match control::ask(pod.as_fd(), request, control::PATIENCE).context(step)? {
        Some(_) => Ok(0),
        None => Err(Error::new(step()).hint(format!(
            "it is over; remove it and run it again: runp pod delete {name}"
        ))),
    }
}

/// End a pod in order
///
/// Its containers get SIGTERM, and what still runs after the grace period SIGKILL. Status and logs stay until
/// `pod delete`.
#[derive(Debug, clap::Args)]
pub(super) struct Stop {
    /// The pod's name
    name: PodName,
    /// Seconds between SIGTERM and SIGKILL, instead of terminationGracePeriodSeconds
    #[arg(short = 't', long, value_name = "SECONDS", value_parser = seconds)]
    grace: Option<Duration>,
}

impl Stop {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        if let Err(e) = supervised(places, &pod) {
            // It is ended without one, then.
            log::warn!("{e}");
        }
        delete::stop(&places.pods, &places.store, &self.name, self.grace)?;
        Ok(0)
    }
}

/// Remove a pod, its logs and its volumes
#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// The pods' names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<PodName>,
    /// End it at once if it runs, and be content if there is none
    #[arg(short, long)]
    force: bool,
}

impl Delete {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let delete = |name: &PodName| delete::delete(&places.pods, &places.store, name, self.force);
        if let [name] = self.names.as_slice() {
            return delete(name).map(|()| 0);
        }
        let errors = self.names.iter().map(delete).filter_map(Result::err);
        Error::all("delete pods", errors.collect())?;
        Ok(0)
    }
}
