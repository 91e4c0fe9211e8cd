//! What pause is to hold: namespaces, a host name, sysctls, limits.

use k8s_openapi::api::core::v1 as k8s;

use super::{Network, PlanOptions, SandboxPlan, Shared, cgroup, host, resources};
use crate::error::{Error, Result};
use crate::spec;

pub(super) fn plan(
    name: &str,
    spec: &k8s::PodSpec,
    names: &host::Names,
    connection: &Network,
    options: &PlanOptions,
) -> Result<SandboxPlan> {
    let host = |flag: Option<bool>| match flag {
        Some(true) => Shared::Host,
        _ => Shared::Pod,
    };
    let (network, ipc) = (host(spec.host_network), host(spec.host_ipc));
    let users = (spec.host_users == Some(false)).then_some(options.ids);
    let sysctls = sysctls(spec, network, ipc)?;
    if let (Network::Path(path), Some(_)) = (connection, users) {
        let what = format!(
            "spec.hostUsers: false, with --network path:{}",
            path.display()
        );
        return Err(Error::new(what).hint(
            "who has users of its own cannot join a network namespace that is somebody else's: choose another network",
        ));
    }
    Ok(SandboxPlan {
        hostname: names.kernel.clone(),
        network,
        ipc,
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => Shared::Host,
            (_, Some(true)) => Shared::Pod,
            _ => Shared::Container,
        },
        cgroup: cgroup(name),
        resources: resources::pod(spec),
        users,
        sysctls,
        connection: connection.clone(),
    })
}

/// `securityContext.sysctls`: of the namespaces that the pod has for itself.
fn sysctls(spec: &k8s::PodSpec, network: Shared, ipc: Shared) -> Result<Vec<(String, String)>> {
    let context = spec.security_context.iter();
    let asked = context.flat_map(|context| context.sysctls.iter().flatten());
    let (mut sysctls, mut errors) = (Vec::new(), Vec::new());
    for (index, sysctl) in asked.enumerate() {
        let error = |why: &str| {
            let field = format!("spec.securityContext.sysctls[{index}].name");
            Error::new(format!("{field}: Invalid value: {:?}: {why}", sysctl.name))
        };
        match spec::sysctl_of(&sysctl.name) {
            Ok((_, "network")) if network == Shared::Host => {
                errors.push(error("not allowed with host net enabled"));
            }
            Ok((_, "ipc")) if ipc == Shared::Host => {
                errors.push(error("not allowed with host ipc enabled"));
            }
            Ok((path, "network" | "ipc")) => sysctls.push((path, sysctl.value.clone())),
            Ok(_) => errors.push(error("belongs to no namespace of the pod")),
            Err(why) => errors.push(error(&why)),
        }
    }
    Error::all("the pod's sysctls", errors)?;
    Ok(sysctls)
}
