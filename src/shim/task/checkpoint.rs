//! Checkpoint, and the start of a container that is made of one, through criu(8).

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use clap::ValueEnum;
use prost::Message;

use super::lifecycle::must_run;
use crate::container::checkpoint::{self, Checkpoint};
use crate::container::criu::{self, ManageCgroups};
use crate::container::restore::{self, Restore};
use crate::container::{self, Request};
use crate::error::{Error, Result};
use crate::shim::io::Owner;
use crate::shim::pod::{Container, Pod, Reply};
use crate::shim::process::State;
use crate::shim::proto::events::TaskCheckpointed;
use crate::shim::proto::options::CheckpointOptions;
use crate::shim::proto::task::CheckpointRequest;
use crate::shim::proto::{Any, Empty};
use crate::shim::ttrpc::{Code, Status};

/// In the bundle: criu's logs, if nobody wants them elsewhere.
const WORK: &str = "criu-work";

impl Pod {
    /// Writes a container's processes into files. With the option `exit` they end, and that is told as any end is.
    pub(super) fn checkpoint(&mut self, request: CheckpointRequest) -> Reply<Empty> {
        let container = self.container(&request.id)?;
        must_run(container)?;
        let asked = read_options(request.options.as_ref())?;
        let images = match asked.image_path.as_str() {
            "" => &request.path,
            path => path,
        };
        let annotations = container.store.look(&container.id)?.record()?.annotations;
        let options = Checkpoint {
            common: criu::Options {
                tcp_established: asked.open_tcp,
                ext_unix_sk: asked.external_unix_sockets,
                shell_job: asked.terminal || container.init.io.asked.terminal,
                file_locks: asked.file_locks,
                manage_cgroups: cgroups_mode(&asked.cgroups_mode)?,
                empty_network: !asked.empty_namespaces.is_empty(),
                ..common(
                    container,
                    &annotations,
                    absolute(images, "path")?,
                    match asked.work_path.as_str() {
                        "" => None,
                        path => Some(absolute(path, "work_path")?),
                    },
                )?
            },
            leave_running: !asked.exit,
            ..Checkpoint::default()
        };
        checkpoint::checkpoint(&container.store, &container.id, &options)?;
        forget_logs(container);
        self.events.publish(&TaskCheckpointed {
            container_id: request.id,
            checkpoint: request.path,
        });
        Ok(Empty {})
    }

    /// Makes the processes of a container that was created from a checkpoint. One that cannot be made has ended.
    pub(super) fn restore(&mut self, id: &str) -> Reply<i32> {
        let namespace = self.namespace.clone();
        let container = self.container(id)?;
        let Some(checkpoint) = container.checkpoint.take() else {
            return Err(Status::precondition("it has been started"));
        };
        let made = make(container, *checkpoint, &namespace);
        match made {
            Ok(pid) => {
                forget_logs(container);
                Ok(pid)
            }
            Err(e) => {
                container.init.io.ended();
                let answers = container.init.never_ran();
                self.answers.extend(answers);
                let why = format!("OCI runtime restore failed: {e}");
                Err(Status::new(Code::Unknown, why))
            }
        }
    }
}

fn make(
    container: &mut Container,
    checkpoint: crate::shim::pod::Checkpoint,
    namespace: &str,
) -> Result<i32> {
    let none = HashMap::new();
    let annotations = checkpoint.spec.annotations().as_ref().unwrap_or(&none);
    let options = Restore {
        // What a checkpoint has, it may have: that was asked when it was made.
        common: criu::Options {
            tcp_established: true,
            ext_unix_sk: true,
            file_locks: true,
            shell_job: container.init.io.asked.terminal,
            ..common(container, annotations, checkpoint.images, None)?
        },
        ..Restore::default()
    };
    let owner = Owner {
        namespace,
        id: container.id.as_str(),
        root: container.options.io_owner,
    };
    let made = restore::restore(
        &container.store,
        &Request {
            id: &container.id,
            bundle: container.bundle.clone(),
            spec: &checkpoint.spec,
            root: checkpoint.root,
            sources: BTreeMap::new(),
            stdio: container.init.io.open(owner)?,
            options: container.options.for_container(),
        },
        &options,
    )?;
    let pid = made.process.pid;
    let watched = container
        .init
        .io
        .attach(made.process.console)
        .and_then(|()| container::watch_oom(&container.store, &container.id));
    container.oom = watched.map_err(|e| {
        let removed = container::delete(&container.store, &container.id, true);
        e.and_cleanup(removed)
    })?;
    container.init.state = State::Running(pid);
    Ok(pid)
}

/// What both have in common.
fn common(
    container: &Container,
    annotations: &HashMap<String, String>,
    images: PathBuf,
    work: Option<PathBuf>,
) -> Result<criu::Options> {
    let work = work.or_else(|| container.options.criu_work_path.clone());
    let work = work.unwrap_or_else(|| container.bundle.join(WORK));
    std::fs::create_dir_all(&work)
        .map_err(|e| Error::sys(format!("make directory {}", work.display()), e))?;
    let program = container.options.criu_path.clone();
    Ok(criu::Options {
        program: program.unwrap_or_else(|| "criu".into()),
        images,
        work: Some(work),
        config_file: criu::config_file(annotations),
        ..criu::Options::default()
    })
}

/// Nobody asks for logs of what has succeeded.
fn forget_logs(container: &Container) {
    let _ = std::fs::remove_dir_all(container.bundle.join(WORK));
}

fn read_options(any: Option<&Any>) -> Reply<CheckpointOptions> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
        return Ok(CheckpointOptions::default());
    };
    if any.name() != "containerd.runc.v1.CheckpointOptions" {
        return Err(Status::invalid(format!("options of type {:?}", any.name())));
    }
    let options = CheckpointOptions::decode(&*any.value)
        .map_err(|e| Status::invalid(format!("options: {e}")))?;
    match options
        .empty_namespaces
        .iter()
        .find(|name| *name != "network")
    {
        Some(other) => Err(Status::invalid(format!(
            "options: empty_namespaces: {other:?}: only the network can be made by others"
        ))),
        None => Ok(options),
    }
}

fn cgroups_mode(name: &str) -> Reply<ManageCgroups> {
    match name {
        "" => Ok(ManageCgroups::default()),
        name => ManageCgroups::from_str(name, false)
            .map_err(|_| Status::invalid(format!("options: cgroups_mode: {name:?}"))),
    }
}

fn absolute(path: &str, name: &str) -> Reply<PathBuf> {
    match path.starts_with('/') {
        true => Ok(path.into()),
        false => Err(Status::invalid(format!(
            "{name} {path:?}: not an absolute path"
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(options: CheckpointOptions) -> Reply<CheckpointOptions> {
        let any = Any::of("containerd.runc.v1.CheckpointOptions", &options);
        read_options(Some(&any))
    }

    #[test]
    fn options_are_runcs() {
        let with = |namespace: &str| CheckpointOptions {
            empty_namespaces: vec![namespace.into()],
            ..CheckpointOptions::default()
        };
        assert!(read(with("network")).is_ok());
        assert!(read(with("pid")).unwrap_err().message.contains("pid"));
        let other = Any::of("example.Options", &CheckpointOptions::default());
        assert!(read_options(Some(&other)).is_err());
        assert_eq!(cgroups_mode("full").unwrap(), ManageCgroups::Full);
        assert!(cgroups_mode("some").is_err());
        assert!(absolute("relative", "path").is_err());
    }
}
