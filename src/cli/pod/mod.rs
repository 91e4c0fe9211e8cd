//! `runp pod`: Kubernetes pods without Kubernetes.

mod attach;
mod cp;
mod debug;
mod exec;
mod logs;
mod manage;
mod port_forward;
mod prove;
mod resize;
mod run;
mod top;
mod view;
mod watch;
mod why;

use std::io::Write;
use std::path::Path;

use clap::Subcommand;

use super::{Global, absolute};
use crate::error::Result;
use crate::pod::store::Pods;
use crate::state::Store;

/// Run Kubernetes pods without Kubernetes
///
/// A pod is a few containers that share their network, IPC and host name, and volumes: init containers that run one
/// after the other, then apps that run together. FILE is a Kubernetes Pod manifest.
#[derive(Debug, clap::Args)]
pub(super) struct Pod {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what would be done for a pod, without doing it
    Plan(run::Plan),
    /// Create a pod, start it, and show how it comes along until it is over
    Run(run::Run),
    /// Create a pod: volumes and namespaces; its containers are started by `start`
    Create(run::Create),
    /// Start the containers of a created pod
    Start(manage::Start),
    /// Show a pod and its containers
    Status(view::Status),
    /// List the pods
    #[command(alias = "ls")]
    List(view::List),
    /// Print what a container has written
    Logs(logs::Logs),
    /// Show how a pod comes along until it is over
    Attach(attach::Attach),
    /// Run another program in a container of a pod
    Exec(exec::Exec),
    /// Run a shell in the place of a container that has ended, or in one of its own beside the others
    Debug(debug::Debug),
    /// Show what has happened to a pod
    Events(watch::Events),
    /// Wait until a pod is in some state
    Wait(watch::Wait),
    /// Tell what is wrong with a pod, what shows it, and what to do
    Why(why::Why),
    /// Show what the kernel says of a pod's processes, against what was planned
    Prove(prove::Prove),
    /// Show what a pod's containers use
    Top(top::Top),
    /// Copy files and directories from a container, or into it
    Cp(cp::Cp),
    /// Forward ports of this machine into a pod's network
    PortForward(port_forward::PortForward),
    /// Change the limits of a pod's containers while it runs
    Resize(resize::Resize),
    /// Run a pod's containers again, init containers first, in the same sandbox
    Restart(manage::Restart),
    /// Run a part of a pod's containers again, in the same sandbox
    Rerun(manage::Rerun),
    /// End a pod in order
    Stop(manage::Stop),
    /// Remove a pod, its logs and its volumes
    #[command(alias = "rm")]
    Delete(manage::Delete),
    /// Show the pod's life on a time axis
    Timeline(view::Timeline),
}

/// Where everything is.
struct Places {
    /// The containers' records.
    store: Store,
    /// The pods.
    pods: Pods,
}

impl Pod {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let root = global.root()?;
        let data_root = absolute(&global.data_root)?;
        let places = Places {
            pods: Pods::new(&root, &data_root),
            store: Store::new(root),
        };
        match self.verb {
            Verb::Plan(plan) => plan.run(&places),
            Verb::Run(run) => run.run(&places),
            Verb::Create(create) => create.run(&places),
            Verb::Start(start) => start.run(&places),
            Verb::Status(status) => status.run(&places),
            Verb::List(list) => list.run(&places),
            Verb::Logs(logs) => logs.run(&places),
            Verb::Attach(attach) => attach.run(&places),
            Verb::Exec(exec) => exec.run(&places),
            Verb::Debug(debug) => debug.run(&places),
            Verb::Events(events) => events.run(&places),
            Verb::Wait(wait) => wait.run(&places),
            Verb::Why(why) => why.run(&places),
            Verb::Prove(prove) => prove.run(&places),
            Verb::Top(top) => top.run(&places),
            Verb::Cp(cp) => cp.run(&places),
            Verb::PortForward(forward) => forward.run(&places),
            Verb::Resize(resize) => resize.run(&places),
            Verb::Restart(restart) => restart.run(&places),
            Verb::Rerun(rerun) => rerun.run(&places),
            Verb::Stop(stop) => stop.run(&places),
            Verb::Delete(delete) => delete.run(&places),
            Verb::Timeline(timeline) => timeline.run(&places),
        }
    }
}

/// Tells the user what is probably not meant.
fn warn(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "runp: warning: {text}");
}

/// `IMAGE=DIR`.
fn mapping(text: &str) -> std::result::Result<(String, std::path::PathBuf), String> {
    match text.split_once('=') {
        Some((image, dir)) if !image.is_empty() && !dir.is_empty() => {
            let dir = absolute(Path::new(dir)).map_err(|e| e.to_string())?;
            Ok((image.into(), dir))
        }
        _ => Err(
            "IMAGE=DIR is wanted: an image's name and the directory of its root file system".into(),
        ),
    }
}

/// Seconds, with a fraction if need be.
fn seconds(text: &str) -> std::result::Result<std::time::Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number of seconds is wanted".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_name_an_image_and_a_directory() {
        let parsed = mapping("busybox=/images/b=b");
        assert_eq!(parsed, Ok(("busybox".into(), "/images/b=b".into())));
        for bad in ["busybox", "=/x", "busybox="] {
            assert!(mapping(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn seconds_are_not_negative() {
        assert_eq!(seconds("1.5"), Ok(std::time::Duration::from_millis(1500)));
        for bad in ["-1", "", "x", "inf", "NaN", "1e30"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
