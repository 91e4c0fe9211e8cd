//! What holds for every plan, whatever it was made from: asserted here and in tests/fuzz.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::cgroup::devices::Access;
use crate::container::{Options, Request, Stdio};
use crate::spec::plan::{BindSource, MountKind, Namespace, Plan};
use crate::spec::tables;

/// The plan of a valid configuration.
pub(crate) fn plan(spec: &Spec) -> Option<Plan> {
    let request = Request {
        id: &"c".parse().unwrap(),
        bundle: "/bundle".into(),
        spec,
        root: None,
        sources: Default::default(),
        stdio: Stdio::Inherit,
        options: Options::default(),
    };
    match crate::spec::plan(&request) {
        Ok(plan) => Some(plan),
        Err(error) => {
            assert!(error.to_string().starts_with("config.json: "), "{error}");
            None
        }
    }
}

fn is_clean(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

/// What must hold for a plan, whatever it was made from.
pub(crate) fn assert_sound(plan: &Plan, spec: &Spec) {
    assert_devices_are_denied(plan, spec);
    let capabilities = &plan.process.capabilities;
    let asked = spec.process().as_ref().unwrap().capabilities().as_ref();
    let inheritable = asked.and_then(|sets| sets.inheritable().as_ref());
    let inheritable = inheritable.into_iter().flatten();
    let inheritable = inheritable.fold(0, |bits, c| {
        bits | tables::capability(&c.to_string()).unwrap()
    });
    assert_eq!(capabilities.inheritable, inheritable);
    assert_eq!(capabilities.ambient & !inheritable, 0);
    assert_eq!(capabilities.effective & !capabilities.permitted, 0);

    let sources: BTreeSet<PathBuf> = spec
        .mounts()
        .iter()
        .flatten()
        .filter_map(|m| m.source().clone())
        .collect();
    for mount in &plan.mounts {
        assert!(is_clean(&mount.destination), "{mount:?}");
        assert_ne!(mount.destination, Path::new("/"));
        if let MountKind::Bind { source, .. } = &mount.kind {
            let BindSource::Path(path) = source else {
                panic!("{mount:?}");
            };
            assert!(
                sources
                    .iter()
                    .any(|named| Path::new("/bundle").join(named) == *path),
                "{mount:?}"
            );
        }
    }
    let hidden = plan.masked_paths.iter().chain(&plan.readonly_paths);
    assert!(
        hidden
            .chain(plan.devices.iter().map(|d| &d.path))
            .all(|path| is_clean(path))
    );
    assert_ne!(plan.namespaces.mount, Namespace::Inherit);
    assert!(plan.hostname.is_none() || plan.namespaces.uts != Namespace::Inherit);
    for (key, _) in &plan.sysctl {
        assert!(
            !key.split('/').any(|name| ["", ".", ".."].contains(&name)),
            "{key}"
        );
    }
    let process = &plan.process;
    assert!(!process.args.is_empty());
    let groups = process.additional_gids.iter();
    assert!(
        groups
            .chain([&process.uid, &process.gid])
            .all(|id| *id != u32::MAX)
    );
    assert!(process.rlimits.iter().all(|(_, soft, hard)| soft <= hard));
}

/// No device may be used that is neither one of the default ones nor asked for.
fn assert_devices_are_denied(plan: &Plan, spec: &Spec) {
    let rules = plan.cgroup.devices.as_ref().expect("rules for devices");
    let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
    let asked = resources.and_then(|resources| resources.devices().as_ref());
    let allowed = asked.into_iter().flatten().any(|entry| entry.allow());
    let uses = Access::READ | Access::WRITE;
    let all = |rule: &&crate::cgroup::devices::Rule| {
        rule.allow && rule.pattern.major.is_none() && rule.access & uses != Access::NONE
    };
    assert!(allowed || rules.iter().find(all).is_none(), "{rules:?}");
}
