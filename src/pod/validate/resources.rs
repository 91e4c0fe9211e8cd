//! Requests and limits, of containers and of the pod.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use super::field::{Errors, Path};
use crate::pod::quantity::Quantity;

const HUGEPAGES: &str = "hugepages-";

pub(super) fn container(errors: &mut Errors, path: &Path, resources: &ResourceRequirements) {
    for (field, quantities) in [
        ("limits", &resources.limits),
        ("requests", &resources.requests),
    ] {
        let path = path.child(field);
        for (name, quantity) in quantities.iter().flatten() {
            let path = path.key(name);
            // A native resource has no domain; a file descriptor or a disk of another's is not to be had.
            let native = ["cpu", "memory", "ephemeral-storage"];
            if !native.contains(&name.as_str())
                && !name.contains('/')
                && !name.starts_with("hugepages-")
            {
                errors.invalid(
                    &path,
                    name,
                    "must be a standard resource type or fully qualified",
                );
                errors.invalid(&path, name, "must be a standard resource for containers");
            }
            match Quantity::parse(&quantity.0) {
                Err(why) => errors.invalid(&path, &quantity.0, why),
                Ok(parsed) if parsed < Quantity::ZERO => {
                    errors.invalid(&path, &quantity.0, "must be greater than or equal to 0")
                }
                Ok(_) => {}
            }
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let Some(limit) = resources.limits.as_ref().and_then(|l| l.get(name)) else {
            continue;
        };
        let (Ok(requested), Ok(limited)) = (Quantity::parse(&request.0), Quantity::parse(&limit.0))
        else {
            continue;
        };
        if name.starts_with(HUGEPAGES) {
            if requested != limited {
                errors.invalid(
                    &path.child("requests"),
                    &request.0,
                    format_args!("must be equal to {name} limit of {}", limit.0),
                );
            }
        } else if requested > limited {
            errors.invalid(
                &path.child("requests"),
                &request.0,
                format_args!("must be less than or equal to {name} limit of {}", limit.0),
            );
        }
    }
    let requests = resources.requests.iter().flatten();
    let all = requests.chain(resources.limits.iter().flatten());
    let names: Vec<&str> = all.map(|(name, _)| name.as_str()).collect();
    let pages = names.iter().any(|name| name.starts_with(HUGEPAGES));
    if pages && !names.contains(&"cpu") && !names.contains(&"memory") {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    for name in resources.requests.iter().flatten().map(|(name, _)| name) {
        let limited = resources
            .limits
            .as_ref()
            .is_some_and(|l| l.contains_key(name));
        if name.starts_with(HUGEPAGES) && !limited {
            let path = path.child("limits").key(name);
            errors.required(&path, "Limit must be set for non overcommitable resources");
        }
    }
}

/// The pod's own: no less than its containers ask for together, no less than each may use.
pub(super) fn pod(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let Some(resources) = &spec.resources else {
        return;
    };
    if resources.claims.is_some() {
        let why = "claims cannot be set for Resources at pod-level";
        errors.forbidden(&path.child("claims"), why);
    }
    let fields = [
        ("limits", &resources.limits),
        ("requests", &resources.requests),
    ];
    for (field, quantities) in fields {
        for (name, quantity) in quantities.iter().flatten() {
            if !["cpu", "memory"].contains(&name.as_str()) && !name.starts_with(HUGEPAGES) {
                let path = path.child(field).key(name);
                errors.unsupported(&path, name, &["cpu", "hugepages-", "memory"]);
            } else if let Ok(own) = Quantity::parse(&quantity.0) {
                compare(errors, path, field, name, (own, &quantity.0), spec);
            }
        }
    }
    container(errors, path, resources);
}

fn compare(
    errors: &mut Errors,
    path: &Path,
    field: &str,
    name: &str,
    (own, text): (Quantity, &str),
    spec: &PodSpec,
) {
    let of = |container: &Container| {
        let resources = container.resources.as_ref()?;
        let quantities = match field {
            "limits" => resources.limits.as_ref()?,
            _ => resources.requests.as_ref()?,
        };
        Quantity::parse(&quantities.get(name)?.0).ok()
    };
    if field == "limits" {
        let inits = spec.init_containers.iter().flatten();
        for over in inits.chain(&spec.containers).filter(|c| of(c) > Some(own)) {
            let why = format!(
                "must be greater than or equal to the limit of container {}",
                over.name
            );
            errors.invalid(&path.child(field).key(name), text, why);
        }
        return;
    }
    let sum = spec
        .containers
        .iter()
        .filter_map(of)
        .fold(Quantity::ZERO, Quantity::plus);
    if sum > own {
        errors.invalid(
            &path.child(field).key(name),
            text,
            "must be greater than or equal to aggregate container requests",
        );
    }
}
