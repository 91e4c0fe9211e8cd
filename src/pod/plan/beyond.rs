//! What goes beyond Kubernetes, by annotation; without them a pod lives as Kubernetes has it.
//!
//! | annotation | value | what it does |
//! | --- | --- | --- |
//! | `runp.org/kubelet-order` | `true` | apps are started one by one in their order, postStart hooks included, as the kubelet does |
//! | `runp.org/start-after` | `web: db, cache; worker: db` | an app is started once these apps have started (`started` in its status) |
//! | `runp.org/max-restarts` | `3`, or `web: 3; seed: 1` | so many restarts, then it is over, whatever `restartPolicy` says |
//! | `runp.org/init-timeout` | `30`, or `seed: 10; migrate: 2.5` | seconds that each run of an init container may take; then it is ended and has failed |
//! | `runp.org/max-container-restart-period` | `60` | seconds, 1 to 300: the longest back-off, as a kubelet's `crashLoopBackOff.maxContainerRestartPeriod` |

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pod::lifecycle::{BackOffLimits, ContainerSpec, Index, Kind, PodSpec};

/// Kubernetes' own annotations are somebody else's; of these none is ignored.
const DOMAIN: &str = "runp.org/";

type Annotations = BTreeMap<String, String>;

/// Applies a pod's annotations to what its lifecycle is made from.
///
/// # Errors
/// Every annotation of ours that is unknown or cannot be done.
pub(super) fn apply(annotations: Option<&Annotations>, spec: &mut PodSpec) -> Result<()> {
    let own = annotations.into_iter().flatten();
    let own = own.filter_map(|(key, value)| Some((key.strip_prefix(DOMAIN)?, value)));
    let errors = own.filter_map(|(name, value)| {
        let applied = apply_one(name, value.trim(), spec);
        applied.err().map(|why| {
            Error::new(format!(
                "metadata.annotations[{DOMAIN}{name}]: Invalid value: {value:?}: {why}"
            ))
        })
    });
    Error::all("the pod's annotations", errors.collect())
}

fn apply_one(name: &str, value: &str, spec: &mut PodSpec) -> std::result::Result<(), String> {
    match name {
        "kubelet-order" => spec.kubelet_order = boolean(value)?,
        "start-after" => start_after(value, spec)?,
        "max-restarts" => each(
            value,
            spec,
            |_| true,
            |c, text| {
                let times = text.parse().map_err(|_| format!("{text:?} is no number"))?;
                c.max_restarts = Some(times);
                Ok(())
            },
        )?,
        "init-timeout" => each(
            value,
            spec,
            |c| c.kind == Kind::Init,
            |c, text| {
                c.timeout = Some(seconds(text)?);
                Ok(())
            },
        )?,
        "max-container-restart-period" => {
            let max = value.parse().ok().filter(|n| (1..=300).contains(n));
            let max = max.ok_or("a whole number of seconds from 1 to 300 is wanted")?;
            spec.back_off = BackOffLimits {
                max: Duration::from_secs(max),
            };
        }
        _ => {
            let known = "kubelet-order, start-after, max-restarts, init-timeout, max-container-restart-period";
            return Err(format!("no such annotation; there are {known}"));
        }
    }
    Ok(())
}

fn boolean(value: &str) -> std::result::Result<bool, String> {
    value
        .parse()
        .map_err(|_| "true or false is wanted".to_owned())
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("{text:?} is no number of seconds"))
}

/// `NAME: VALUE; NAME: VALUE`; a new line is as good as a semicolon.
fn entries(value: &str) -> impl Iterator<Item = std::result::Result<(&str, &str), String>> {
    let entries = value.split([';', '\n']).map(str::trim);
    entries.filter(|entry| !entry.is_empty()).map(|entry| {
        let (name, value) = entry
            .split_once(':')
            .ok_or_else(|| format!("{entry:?} is not of the form CONTAINER: VALUE"))?;
        Ok((name.trim(), value.trim()))
    })
}

fn find(spec: &PodSpec, name: &str) -> std::result::Result<usize, String> {
    let mut all = spec.containers.iter();
    all.position(|c| c.name == name)
        .ok_or_else(|| format!("the pod has no container {name:?}"))
}

/// One value for all containers that it may concern, or some by their names.
fn each(
    value: &str,
    spec: &mut PodSpec,
    concerns: fn(&ContainerSpec) -> bool,
    mut set: impl FnMut(&mut ContainerSpec, &str) -> std::result::Result<(), String>,
) -> std::result::Result<(), String> {
    if !value.contains(':') {
        let mut all = spec.containers.iter_mut().filter(|c| concerns(c));
        return all.try_for_each(|c| set(c, value));
    }
    for entry in entries(value) {
        let (name, text) = entry?;
        let container = find(spec, name)?;
        let container = &mut spec.containers[container];
        if !concerns(container) {
            return Err(format!("{name:?} is no init container that runs to an end"));
        }
        set(container, text)?;
    }
    Ok(())
}

fn start_after(value: &str, spec: &mut PodSpec) -> std::result::Result<(), String> {
    let app = |spec: &PodSpec, name: &str| {
        let i = find(spec, name)?;
        match spec.containers[i].kind {
            Kind::App => Ok(i),
            _ => Err(format!("{name:?} is no app: init containers have an order")),
        }
    };
    for entry in entries(value) {
        let (name, before) = entry?;
        let i = app(spec, name)?;
        for name in before.split(',').map(str::trim) {
            let before = app(spec, name)?;
            spec.containers[i].after.push(Index(before));
        }
    }
    for i in 0..spec.containers.len() {
        if reaches(spec, i, i, spec.containers.len()) {
            let name = &spec.containers[i].name;
            return Err(format!("{name:?} would have to start after itself"));
        }
    }
    Ok(())
}

/// Whether `from` starts after `to`, by at most so many steps.
fn reaches(spec: &PodSpec, from: usize, to: usize, steps: usize) -> bool {
    let mut after = spec.containers[from].after.iter();
    steps > 0 && after.any(|j| j.0 == to || reaches(spec, j.0, to, steps - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(name: &str, value: &str) -> Result<PodSpec> {
        let kinds = [("seed", Kind::Init), ("side", Kind::Sidecar)];
        let apps = ["db", "cache", "web"].map(|name| (name, Kind::App));
        let containers = kinds.into_iter().chain(apps);
        let mut spec = PodSpec {
            containers: containers
                .map(|(name, kind)| ContainerSpec::new(name, kind))
                .collect(),
            ..PodSpec::default()
        };
        let all = Annotations::from([
            (format!("runp.org/{name}"), value.to_owned()),
            ("example.com/other".to_owned(), "x".to_owned()),
        ]);
        apply(Some(&all), &mut spec).map(|()| spec)
    }

    #[test]
    fn each_annotation_says_what_it_is_to() -> Result<()> {
        assert!(applied("kubelet-order", "true")?.kubelet_order);
        let spec = applied("start-after", "web: db, cache\ncache: db;")?;
        assert_eq!(spec.containers[4].after, [Index(2), Index(3)]);
        assert_eq!(spec.containers[3].after, [Index(2)]);
        let caps = |value: &str| -> Result<Vec<Option<u32>>> {
            let spec = applied("max-restarts", value)?;
            Ok(spec.containers.iter().map(|c| c.max_restarts).collect())
        };
        assert_eq!(caps("3")?, [Some(3); 5]);
        assert_eq!(caps("web: 0")?, [None, None, None, None, Some(0)]);
        let spec = applied("init-timeout", "2.5")?;
        let times: Vec<_> = spec.containers.iter().filter_map(|c| c.timeout).collect();
        assert_eq!(times, [Duration::from_millis(2500)], "no sidecar's");
        let spec = applied("max-container-restart-period", "7")?;
        assert_eq!(spec.back_off.max, Duration::from_secs(7));
        Ok(())
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (name, value, why) in [
            ("kubelet-order", "yes", "true or false"),
            ("kubelet-ordre", "true", "no such annotation"),
            ("start-after", "web: db; db: web", "after itself"),
            ("start-after", "web: web", "after itself"),
            ("start-after", "web: seed", "no app"),
            ("start-after", "web: nobody", "no container \"nobody\""),
            ("start-after", "web db", "CONTAINER: VALUE"),
            ("max-restarts", "-1", "no number"),
            ("init-timeout", "web: 3", "no init container"),
            ("init-timeout", "0", "no number of seconds"),
            ("max-container-restart-period", "301", "from 1 to 300"),
        ] {
            let error = applied(name, value).err().map(|e| e.to_string());
            let error = error.unwrap_or_default();
            assert!(error.contains(why), "{name}={value}: {error}");
            assert!(error.contains(&format!("runp.org/{name}")), "{error}");
        }
    }
}
