//! Probes, hooks and restart rules.

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::field::{Errors, Path};
use super::names;

/// What Kubernetes takes of rules, and of exit codes in one.
const RULES: usize = 20;
const CODES: usize = 255;

/// Checks what is called in a container, and when it is restarted. `grace` is the pod's, in seconds.
pub(super) fn validate(errors: &mut Errors, path: &Path, container: &Container, grace: i64) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (field, set) in probes {
        if let Some(set) = set {
            probe(errors, &path.child(field), set, field == "readinessProbe");
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        hooks(errors, &path.child("lifecycle"), lifecycle, grace);
    }
    errors.one_of(
        &path.child("restartPolicy"),
        container.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    let rules = container
        .restart_policy_rules
        .as_deref()
        .unwrap_or_default();
    if !rules.is_empty() && container.restart_policy.is_none() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.required(&path.child("restartPolicy"), why);
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > RULES {
        errors.too_many(&path, rules.len(), RULES);
    }
    for (index, one) in rules.iter().enumerate() {
        rule(errors, &path.index(index), one);
    }
}

fn rule(errors: &mut Errors, path: &Path, rule: &ContainerRestartRule) {
    errors.one_of(
        &path.child("action"),
        Some(&rule.action),
        &["Restart", "RestartAllContainers"],
    );
    let path = path.child("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        return errors.required(&path, "must be specified");
    };
    errors.one_of(
        &path.child("operator"),
        Some(&codes.operator),
        &["In", "NotIn"],
    );
    let values = codes.values.as_deref().unwrap_or_default();
    let path = path.child("values");
    match values.len() {
        0 => errors.invalid(&path, "", "must specify at least one exit code"),
        n if n > CODES => errors.too_many(&path, n, CODES),
        _ => {}
    }
}

/// At least one of two hooks, each with one handler.
fn hooks(errors: &mut Errors, path: &Path, lifecycle: &Lifecycle, grace: i64) {
    if let Some(hook) = &lifecycle.post_start {
        self::hook(errors, &path.child("postStart"), hook, grace);
    }
    if let Some(hook) = &lifecycle.pre_stop {
        self::hook(errors, &path.child("preStop"), hook, grace);
    }
}

fn hook(errors: &mut Errors, path: &Path, hook: &LifecycleHandler, grace: i64) {
    one_handler(
        errors,
        path,
        &[
            ("exec", hook.exec.is_some()),
            ("httpGet", hook.http_get.is_some()),
            ("tcpSocket", hook.tcp_socket.is_some()),
            ("sleep", hook.sleep.is_some()),
        ],
    );
    exec(errors, path, hook.exec.as_ref());
    http_get(errors, path, hook.http_get.as_ref());
    tcp_socket(errors, path, hook.tcp_socket.as_ref());
    if let Some(sleep) = &hook.sleep
        && !(0..=grace).contains(&sleep.seconds)
    {
        errors.invalid(
            &path.child("sleep"),
            &sleep.seconds,
            format_args!(
                "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            ),
        );
    }
}

fn probe(errors: &mut Errors, path: &Path, probe: &Probe, readiness: bool) {
    one_handler(
        errors,
        path,
        &[
            ("exec", probe.exec.is_some()),
            ("httpGet", probe.http_get.is_some()),
            ("tcpSocket", probe.tcp_socket.is_some()),
            ("grpc", probe.grpc.is_some()),
        ],
    );
    exec(errors, path, probe.exec.as_ref());
    http_get(errors, path, probe.http_get.as_ref());
    tcp_socket(errors, path, probe.tcp_socket.as_ref());
    if let Some(grpc) = &probe.grpc {
        port_number(errors, &path.child("grpc").child("port"), grpc.port.into());
    }
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        if let Some(number) = number.filter(|number| *number < 0) {
            let why = "must be greater than or equal to 0";
            errors.invalid(&path.child(field), &number, why);
        }
    }
    let grace = path.child("terminationGracePeriodSeconds");
    match probe.termination_grace_period_seconds {
        Some(seconds) if readiness => {
            errors.invalid(&grace, &seconds, "must not be set for readinessProbes");
        }
        Some(seconds) if seconds <= 0 => errors.invalid(&grace, &seconds, "must be greater than 0"),
        _ => {}
    }
    let successes = probe.success_threshold.unwrap_or(1);
    if !readiness && successes != 1 {
        errors.invalid(&path.child("successThreshold"), &successes, "must be 1");
    }
}

fn one_handler(errors: &mut Errors, path: &Path, handlers: &[(&str, bool)]) {
    let mut set = handlers.iter().filter(|(_, set)| *set);
    if set.next().is_none() {
        errors.required(path, "must specify a handler type");
    }
    for (field, _) in set {
        errors.forbidden(
            &path.child(field),
            "may not specify more than 1 handler type",
        );
    }
}

fn exec(errors: &mut Errors, path: &Path, exec: Option<&ExecAction>) {
    if exec.is_some_and(|exec| exec.command.iter().flatten().next().is_none()) {
        errors.required(&path.child("exec").child("command"), "");
    }
}

fn http_get(errors: &mut Errors, path: &Path, get: Option<&HTTPGetAction>) {
    let Some(get) = get else { return };
    let path = path.child("httpGet");
    if get.path.as_deref() == Some("") {
        errors.required(&path.child("path"), "");
    }
    port(errors, &path.child("port"), &get.port);
    errors.one_of(
        &path.child("scheme"),
        get.scheme.as_deref(),
        &["HTTP", "HTTPS"],
    );
    let headers = path.child("httpHeaders");
    for (index, header) in get.http_headers.iter().flatten().enumerate() {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if header.name.is_empty() || !header.name.chars().all(letter) {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', \
                       regex used for validation is '[-A-Za-z0-9]+')";
            errors.invalid(&headers.index(index).child("name"), &header.name, why);
        }
    }
}

fn tcp_socket(errors: &mut Errors, path: &Path, tcp: Option<&TCPSocketAction>) {
    if let Some(tcp) = tcp {
        port(errors, &path.child("tcpSocket").child("port"), &tcp.port);
    }
}

fn port(errors: &mut Errors, path: &Path, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => port_number(errors, path, (*number).into()),
        IntOrString::String(name) => errors.each(path, name, names::port(name)),
    }
}

fn port_number(errors: &mut Errors, path: &Path, number: i64) {
    errors.within(path, number, 1..=65535);
}
