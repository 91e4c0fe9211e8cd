//! `runp pod`: Kubernetes pods without Kubernetes.

mod apply;
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

use super::verb::{self, Verb, verb};
use super::{Global, absolute};
use crate::error::Error;
use crate::pod::store::Pods;
use crate::state::Store;

const VERBS: &[Verb<Places>] = &[
    verb!(
        "plan",
        "Show what would be done for a pod, without doing it",
        run::Plan,
        run::Plan::run
    ),
    verb!(
        "run",
        "Create a pod, start it, and show how it comes along until it is over",
        run::Run,
        run::Run::run
    ),
    verb!(
        "create",
        "Create a pod: volumes and namespaces; its containers are started by `start`",
        run::Create,
        run::Create::run
    ),
    verb!(
        "apply",
        "Change what may change of pods that exist: ConfigMaps, Secrets, labels and annotations",
        apply::Apply,
        apply::Apply::run
    ),
    verb!(
        "start",
        "Start the containers of a created pod",
        manage::Start,
        manage::Start::run
    ),
    verb!(
        "status",
        "Show a pod and its containers",
        view::Status,
        view::Status::run
    ),
    Verb {
        alias: Some("ls"),
        ..verb!("list", "List the pods", view::List, view::List::run)
    },
    verb!(
        "logs",
        "Print what a container has written",
        logs::Logs,
        logs::Logs::run
    ),
    verb!(
        "attach",
        "Show how a pod comes along until it is over",
        attach::Attach,
        attach::Attach::run
    ),
    verb!(
        "exec",
        "Run another program in a container of a pod",
        exec::Exec,
        exec::Exec::run
    ),
    verb!(
        "debug",
        "Run a shell in the place of a container that has ended, or in one of its own beside the others",
        debug::Debug,
        debug::Debug::run
    ),
    verb!(
        "events",
        "Show what has happened to a pod",
        watch::Events,
        watch::Events::run
    ),
    verb!(
        "wait",
        "Wait until a pod is in some state",
        watch::Wait,
        watch::Wait::run
    ),
    verb!(
        "why",
        "Tell what is wrong with a pod, what shows it, and what to do",
        why::Why,
        why::Why::run
    ),
    verb!(
        "prove",
        "Show what the kernel says of a pod's processes, against what was planned",
        prove::Prove,
        prove::Prove::run
    ),
    verb!(
        "top",
        "Show what a pod's containers use",
        top::Top,
        top::Top::run
    ),
    verb!(
        "cp",
        "Copy files and directories from a container, or into it",
        cp::Cp,
        cp::Cp::run
    ),
    verb!(
        "port-forward",
        "Forward ports of this machine into a pod's network",
        port_forward::PortForward,
        port_forward::PortForward::run
    ),
    verb!(
        "resize",
        "Change the limits of a pod's containers while it runs",
        resize::Resize,
        resize::Resize::run
    ),
    verb!(
        "restart",
        "Run a pod's containers again, init containers first, in the same sandbox",
        manage::Restart,
        manage::Restart::run
    ),
    verb!(
        "rerun",
        "Run a part of a pod's containers again, in the same sandbox",
        manage::Rerun,
        manage::Rerun::run
    ),
    verb!(
        "stop",
        "End a pod in order",
        manage::Stop,
        manage::Stop::run
    ),
    Verb {
        alias: Some("rm"),
        ..verb!(
            "delete",
            "Remove a pod, its logs and its volumes",
            manage::Delete,
            manage::Delete::run
        )
    },
    verb!(
        "timeline",
        "Show the pod's life on a time axis",
        view::Timeline,
        view::Timeline::run
    ),
];

/// Where everything is.
struct Places {
    /// The containers' records.
    store: Store,
    /// The pods.
    pods: Pods,
}

/// `runp pod` itself.
pub(super) const POD: Verb<Global> = Verb {
    name: "pod",
    about: "Run Kubernetes pods without Kubernetes",
    alias: None,
    define: |command, wanted| verb::define(command.long_about(LONG), VERBS, wanted),
    run: |matches, global| {
        if global.systemd_cgroup {
            let error = Error::new("--systemd-cgroup: a pod's cgroups are made by runp itself");
            return Err(error.hint("leave it out"));
        }
        let root = global.root()?;
        let places = Places {
            pods: Pods::new(&root, &absolute(&global.data_root)?),
            store: Store::new(root),
        };
        verb::run(matches, VERBS, &places)
    },
};

const LONG: &str = "Run Kubernetes pods without Kubernetes

A pod is a few containers that share their network, IPC and host name, and volumes: init containers that run one after the \
other, then apps that run together. FILE is a Kubernetes Pod manifest.";

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
