//! Create: a container from a bundle, which waits for Start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::container::{self, Launch, Request};
use crate::error::{Context, Error, Result};
use crate::shim::io::{Asked, Owner};
use crate::shim::options::Options;
use crate::shim::pod::{Checkpoint, Container, Pod, Reply};
use crate::shim::process::{Process, State};
use crate::shim::proto::events::{TaskCreate, TaskIo};
use crate::shim::proto::task::{CreateRequest, PidResponse};
use crate::shim::sandbox::Sandbox;
use crate::shim::ttrpc::{Code, Status};
use crate::shim::{bundle, rootfs};
use crate::spec::load;
use crate::state::{ContainerId, Store};

impl Pod {
    pub(super) fn create(&mut self, request: CreateRequest) -> Reply<PidResponse> {
        let bad = |e: Error| Status::invalid(e.to_string());
        let id: ContainerId = request.id.parse().map_err(bad)?;
        if self.containers.contains_key(id.as_str()) {
            let why = format!("container {:?} exists", id.as_str());
            return Err(Status::new(Code::AlreadyExists, why));
        }
        if !request.bundle.starts_with('/') {
            let why = format!("bundle {:?}: not an absolute path", request.bundle);
            return Err(Status::invalid(why));
        }
        if !request.parent_checkpoint.is_empty() {
            let why = "parent_checkpoint: a checkpoint names its parent itself";
            return Err(Status::invalid(why));
        }
        let mut options = Options::read(request.options.as_ref())?;
        let images = match request.checkpoint.as_str() {
            "" => options.criu_image_path.take(),
            path => Some(path.into()),
        };
        let sandbox = self.sandbox.as_ref();
        let made = match images {
            Some(images) => from_checkpoint(id, &request, options, &self.namespace, images),
            None => make(id, &request, options, &self.namespace, sandbox),
        };
        let container = made.map_err(|e| {
            // Docker and others look for these words.
            Status::new(Code::Unknown, format!("OCI runtime create failed: {e}"))
        })?;
        let pid = container.init.pid() as u32;
        self.events.publish(&TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: Some(TaskIo {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            }),
            checkpoint: request.checkpoint,
            pid,
        });
        self.containers.insert(request.id, container);
        Ok(PidResponse { pid })
    }
}

fn make(
    id: ContainerId,
    request: &CreateRequest,
    options: Options,
    namespace: &str,
    sandbox: Option<&Sandbox>,
) -> Result<Container> {
    let bundle = PathBuf::from(&request.bundle);
    let mut spec = load::load(&bundle)?;
    let sources = match sandbox {
        Some(sandbox) => sandbox.complete(&mut spec)?,
        None => BTreeMap::new(),
    };
    check_terminal(&spec, request.terminal)?;
    let store = store(&bundle, &options, namespace)?;
    let mut init = process(request);
    let owner = Owner {
        namespace,
        id: id.as_str(),
        root: options.io_owner,
    };
    let made = container::create(
        &store,
        &Request {
            id: &id,
            bundle: bundle.clone(),
            spec: &spec,
            root: rootfs::mount(&request.rootfs)?,
            sources,
            stdio: init.io.open(owner)?,
            options: options.for_container(),
        },
        Launch::AtGate,
    )?;
    init.state = State::Created(made.process.pid);
    let watched = init
        .io
        .attach(made.process.console)
        .and_then(|()| container::watch_oom(&store, &id));
    let oom = watched.map_err(|e| {
        let removed = container::delete(&store, &id, true);
        e.and_cleanup(removed)
    })?;
    Ok(Container {
        shares_pids: shares_pids(&spec),
        id,
        bundle,
        store,
        init,
        execs: BTreeMap::new(),
        options,
        checkpoint: None,
        oom,
    })
}

/// One whose processes Start makes. Until then there is nothing of it.
fn from_checkpoint(
    id: ContainerId,
    request: &CreateRequest,
    options: Options,
    namespace: &str,
    images: PathBuf,
) -> Result<Container> {
    let bundle = PathBuf::from(&request.bundle);
    let spec = load::load(&bundle)?;
    check_terminal(&spec, request.terminal)?;
    let step = || format!("open checkpoint {}", images.display());
    std::fs::read_dir(&images).context(step)?;
    Ok(Container {
        shares_pids: shares_pids(&spec),
        id,
        store: store(&bundle, &options, namespace)?,
        bundle,
        init: process(request),
        execs: BTreeMap::new(),
        options,
        checkpoint: Some(Box::new(Checkpoint {
            images,
            spec,
            root: rootfs::mount(&request.rootfs)?,
        })),
        oom: None,
    })
}

fn store(bundle: &Path, options: &Options, namespace: &str) -> Result<Store> {
    let root = options.root(namespace);
    bundle::note_root(bundle, &root)?;
    Ok(Store::new(root))
}

fn process(request: &CreateRequest) -> Process {
    Process::new(Asked {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    })
}

/// containerd has told both, and means the same.
fn check_terminal(spec: &Spec, asked: bool) -> Result<()> {
    let process = spec.process().as_ref();
    let configured = process.and_then(|process| process.terminal());
    match configured.unwrap_or(false) == asked {
        true => Ok(()),
        false => Err(Error::new(format!(
            "config.json: process.terminal: is {}, and the request says {asked}",
            !asked
        ))),
    }
}

/// Whether its first process is not the first one of a pid namespace of its own.
fn shares_pids(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref());
    let own = namespaces.unwrap_or_default().iter().any(|namespace| {
        namespace.typ() == LinuxNamespaceType::Pid
            && namespace
                .path()
                .as_deref()
                .is_none_or(|path| path == Path::new(""))
    });
    !own
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with_namespaces(namespaces: &str) -> Spec {
        let json = format!(r#"{{"ociVersion": "1.0.0", "linux": {{"namespaces": {namespaces}}}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn only_a_pid_namespace_of_ones_own_ends_with_the_first_process() {
        assert!(!shares_pids(&with_namespaces(r#"[{"type": "pid"}]"#)));
        assert!(shares_pids(&with_namespaces("[]")));
        let joined = r#"[{"type": "pid", "path": "/proc/1/ns/pid"}]"#;
        assert!(shares_pids(&with_namespaces(joined)));
    }
}
