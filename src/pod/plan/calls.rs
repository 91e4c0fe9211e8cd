//! The manifest's probes, hooks and restart rules, as the lifecycle and the supervisor need them.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{PlanOptions, beyond, containers_of};
use crate::error;
use crate::pod::calls::{CallPlan, Handler, Host, HttpGet, ProbePlan, Scheme, Target};
use crate::pod::lifecycle::{
    ContainerSpec, PodSpec, ProbeKind, ProbeSpec, RestartPolicy, RestartRule, RuleAction,
};
use crate::pod::termination::TerminationPlan;
use crate::spec::tables;

/// What the lifecycle must know of a pod; options go before annotations.
///
/// # Errors
/// An annotation of ours that cannot be done.
pub(super) fn lifecycle(pod: &k8s::Pod, options: &PlanOptions) -> error::Result<PodSpec> {
    let mut lifecycle = pod.spec.as_ref().map(of_kubernetes).unwrap_or_default();
    beyond::apply(pod.metadata.annotations.as_ref(), &mut lifecycle)?;
    lifecycle.kubelet_order |= options.kubelet_order;
    lifecycle.back_off = options.back_off.unwrap_or(lifecycle.back_off);
    Ok(lifecycle)
}

fn of_kubernetes(spec: &k8s::PodSpec) -> PodSpec {
    let seconds = |seconds: Option<i64>| {
        let seconds = seconds.and_then(|seconds| seconds.try_into().ok());
        seconds.map(Duration::from_secs)
    };
    let policy = spec.restart_policy.as_deref();
    PodSpec {
        restart_policy: policy.and_then(restart_policy).unwrap_or_default(),
        grace: seconds(spec.termination_grace_period_seconds).unwrap_or(Duration::from_secs(30)),
        active_deadline: seconds(spec.active_deadline_seconds),
        containers: containers_of(spec)
            .map(|(_, kind, container)| {
                let hooks = container.lifecycle.as_ref();
                ContainerSpec {
                    name: container.name.clone(),
                    kind,
                    restart_policy: container.restart_policy.as_deref().and_then(restart_policy),
                    rules: container
                        .restart_policy_rules
                        .iter()
                        .flatten()
                        .map(rule)
                        .collect(),
                    post_start: hooks.is_some_and(|hooks| hooks.post_start.is_some()),
                    pre_stop: hooks.is_some_and(|hooks| hooks.pre_stop.is_some()),
                    stop_signal: hooks
                        .and_then(|hooks| hooks.stop_signal.as_deref())
                        .and_then(tables::signal),
                    probes: probes(container)
                        .map(|(kind, probe)| ProbeSpec {
                            kind,
                            grace: seconds(probe.termination_grace_period_seconds),
                        })
                        .collect(),
                    ..ContainerSpec::default()
                }
            })
            .collect(),
        ..PodSpec::default()
    }
}

fn restart_policy(name: &str) -> Option<RestartPolicy> {
    match name {
        "Always" => Some(RestartPolicy::Always),
        "OnFailure" => Some(RestartPolicy::OnFailure),
        "Never" => Some(RestartPolicy::Never),
        _ => None,
    }
}

fn rule(rule: &k8s::ContainerRestartRule) -> RestartRule {
    let codes = rule.exit_codes.as_ref();
    RestartRule {
        action: match rule.action.as_str() {
            "RestartAllContainers" => RuleAction::RestartAllContainers,
            _ => RuleAction::Restart,
        },
        negated: codes.is_some_and(|codes| codes.operator == "NotIn"),
        exit_codes: codes
            .and_then(|codes| codes.values.clone())
            .unwrap_or_default(),
    }
}

fn probes(container: &k8s::Container) -> impl Iterator<Item = (ProbeKind, &k8s::Probe)> {
    let all = [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
    ];
    all.into_iter()
        .filter_map(|(kind, probe)| Some((kind, probe.as_ref()?)))
}

/// What is called in a container; what says of no host goes to `own`, or else to the loopback.
pub(super) fn calls(container: &k8s::Container, own: Option<IpAddr>) -> CallPlan {
    let hooks = container.lifecycle.as_ref();
    let hook = |of: fn(&k8s::Lifecycle) -> Option<&k8s::LifecycleHandler>| {
        hooks
            .and_then(of)
            .map(|handler| hook(container, handler, own))
    };
    CallPlan {
        probes: probes(container)
            .filter_map(|(kind, probe)| {
                let number = |value: Option<i32>, default| {
                    let value = value.filter(|value| *value > 0);
                    value.map_or(default, i32::unsigned_abs)
                };
                let seconds = |value, default| Duration::from_secs(number(value, default).into());
                Some(ProbePlan {
                    kind,
                    handler: probe_handler(container, probe, own)?,
                    initial_delay: seconds(probe.initial_delay_seconds, 0),
                    period: seconds(probe.period_seconds, 10),
                    timeout: seconds(probe.timeout_seconds, 1),
                    success_threshold: number(probe.success_threshold, 1),
                    failure_threshold: number(probe.failure_threshold, 3),
                })
            })
            .collect(),
        post_start: hook(|hooks| hooks.post_start.as_ref()),
        pre_stop: hook(|hooks| hooks.pre_stop.as_ref()),
    }
}

/// Where a container leaves its last words.
pub(super) fn termination(container: &k8s::Container) -> TerminationPlan {
    let path = container.termination_message_path.as_deref();
    TerminationPlan {
        path: path
            .filter(|path| !path.is_empty())
            .map(|path| Path::new("/").join(path)),
        log_instead: container.termination_message_policy.as_deref()
            == Some("FallbackToLogsOnError"),
    }
}

fn probe_handler(
    container: &k8s::Container,
    probe: &k8s::Probe,
    own: Option<IpAddr>,
) -> Option<Handler> {
    if let Some(exec) = &probe.exec {
        return Some(Handler::Exec(exec.command.clone().unwrap_or_default()));
    }
    if let Some(get) = &probe.http_get {
        return Some(http_get(container, get, own, true));
    }
    if let Some(tcp) = &probe.tcp_socket {
        let target = target(container, tcp.host.as_deref(), own, &tcp.port);
        return Some(target.map_or_else(Handler::Invalid, Handler::TcpSocket));
    }
    probe.grpc.as_ref().map(|grpc| Handler::Grpc {
        target: Target {
            host: own.map_or(Host::Pod, Host::Address),
            port: u16::try_from(grpc.port).unwrap_or_default(),
        },
        service: grpc.service.clone().unwrap_or_default(),
    })
}

fn hook(
    container: &k8s::Container,
    handler: &k8s::LifecycleHandler,
    own: Option<IpAddr>,
) -> Handler {
    if let Some(exec) = &handler.exec {
        return Handler::Exec(exec.command.clone().unwrap_or_default());
    }
    if let Some(get) = &handler.http_get {
        return http_get(container, get, own, false);
    }
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
        return Handler::Sleep(Duration::from_secs(seconds));
    }
    // The API server accepts it for old manifests' sake, and the kubelet does not run it.
    Handler::Invalid("invalid handler: tcpSocket is not supported as a lifecycle hook".into())
}

fn http_get(
    container: &k8s::Container,
    get: &k8s::HTTPGetAction,
    own: Option<IpAddr>,
    judged: bool,
) -> Handler {
    let path = get.path.clone().unwrap_or_default();
    let headers = get.http_headers.iter().flatten();
    match target(container, get.host.as_deref(), own, &get.port) {
        Ok(target) => Handler::HttpGet(HttpGet {
            scheme: match get.scheme.as_deref() {
                Some("HTTPS") => Scheme::Https,
                _ => Scheme::Http,
            },
            target,
            path: match path.starts_with('/') {
                true => path,
                false => format!("/{path}"),
            },
            headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
            judged,
        }),
        Err(why) => Handler::Invalid(why),
    }
}

/// A port's name is one of the container's own.
fn target(
    container: &k8s::Container,
    host: Option<&str>,
    own: Option<IpAddr>,
    port: &IntOrString,
) -> Result<Target, String> {
    let named = |name: &str| {
        let mut ports = container.ports.iter().flatten();
        let found = ports.find(|port| port.name.as_deref() == Some(name));
        found.map(|port| port.container_port)
    };
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => named(name).or_else(|| name.parse().ok()),
    };
    let number = number.and_then(|number| u16::try_from(number).ok());
    Ok(Target {
        host: match host.filter(|host| !host.is_empty()) {
            None => own.map_or(Host::Pod, Host::Address),
            Some(host) => match host.parse() {
                Ok(address) => Host::Address(address),
                Err(_) => Host::Named(host.to_owned()),
            },
        },
        port: number
            .filter(|number| *number > 0)
            .ok_or_else(|| format!("couldn't find port: {port:?} in the container's ports"))?,
    })
}
