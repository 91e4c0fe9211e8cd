//! What went wrong with a pod, with the evidence and what to do: pure, from what was found.

use std::time::Duration;

use serde::Serialize;

use super::lifecycle::{
    Event, Index, Kind, Phase, Pod, ProbeKind, STATUS_UNKNOWN, Sandbox, State, Termination, Time,
    Volumes,
};
use super::timeline::duration;

/// One thing that is wrong, or that everything waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `pod`, or the container's name.
    pub object: String,
    /// What is wrong, in a sentence.
    pub what: String,
    /// What shows it: a label and a text each.
    pub evidence: Vec<(String, String)>,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What is known of a pod.
#[allow(missing_debug_implementations)] // a function has none
pub struct Case<'a> {
    /// The pod, now.
    pub life: &'a Pod,
    /// All that has happened to it.
    pub events: &'a [(Time, Event)],
    /// What time it is.
    pub now: Time,
    /// Whether somebody carries its life out.
    pub supervised: bool,
    /// The last lines that a container has written in its last run that wrote any.
    pub log: &'a dyn Fn(Index) -> Vec<String>,
}

/// Everything that is wrong, the cause first; empty if nothing is.
#[must_use]
pub fn why(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let life = case.life;
    findings.extend(case.pod());
    for i in 0..life.containers().len() {
        findings.extend(case.container(Index(i)));
    }
    if findings.is_empty() {
        findings.extend(case.waits_for());
    }
    if !case.supervised && !life.finished() {
        findings.push(Finding {
            object: "pod".into(),
            what: "nobody supervises it: nothing is started or restarted any more".into(),
            evidence: Vec::new(),
            advice: Some("runp pod attach --supervise goes on with it".into()),
        });
    }
    findings
}

impl Case<'_> {
    fn pod(&self) -> Option<Finding> {
        let life = self.life;
        if let Some(failure) = life.setup_failure() {
            let until = match (life.volumes(), life.sandbox()) {
                (Volumes::BackOff { until, .. }, _) | (_, Sandbox::BackOff { until, .. }) => {
                    Some(until)
                }
                _ => None,
            };
            let mut evidence = vec![("message".to_owned(), failure.message.clone())];
            evidence.extend(until.map(|until| self.next_try(until)));
            return Some(Finding {
                object: "pod".into(),
                what: match failure.reason {
                    "FailedMount" => "its volumes cannot be made".into(),
                    _ => "its sandbox cannot be made".into(),
                },
                evidence,
                advice: advice_of_text(&failure.message),
            });
        }
        let (reason, message) = life.reason()?;
        Some(Finding {
            object: "pod".into(),
            what: format!("it was ended: {reason}"),
            evidence: vec![("message".into(), message.into())],
            advice: match reason {
                "DeadlineExceeded" => {
                    Some("raise spec.activeDeadlineSeconds, or make it faster".into())
                }
                "Evicted" => Some("raise the volume's sizeLimit, or write less into it".into()),
                _ => None,
            },
        })
    }

    fn container(&self, container: Index) -> Option<Finding> {
        let life = self.life;
        let (spec, c) = (
            &life.spec().containers[container.0],
            &life.containers()[container.0],
        );
        let until = match c.state {
            State::BackOff { until, .. } => Some(until),
            _ => None,
        };
        let bad = |t: &&Termination| t.exit_code != 0 || t.reason == "OOMKilled";
        let ended = c.last.as_ref().filter(bad);
        let running = c.running();
        let (what, advice) = match (&c.failure, ended) {
            (Some(failure), _) if !running => (
                match failure.reason {
                    "PostStartHookError" => "its postStart hook failed".to_owned(),
                    reason => format!("it cannot be started: {reason}"),
                },
                advice_of_text(&failure.message),
            ),
            (None, Some(ended)) if !running && !self.was_asked(ended) => {
                (how(ended), self.advice(container, ended))
            }
            _ => return self.unready(container),
        };
        let mut evidence = Vec::new();
        evidence.extend(
            c.failure
                .as_ref()
                .map(|f| ("message".into(), f.message.clone())),
        );
        if let Some(ended) = ended {
            evidence.extend(self.end(ended));
        }
        if c.restart_count > 0 {
            evidence.push(("restarts".into(), c.restart_count.to_string()));
        }
        evidence.extend(self.probe(container));
        let log = (self.log)(container);
        if !log.is_empty() {
            evidence.push(("last output".into(), log.join("\n")));
        }
        evidence.extend(until.map(|until| self.next_try(until)));
        Some(Finding {
            object: spec.name.clone(),
            what,
            evidence,
            advice,
        })
    }

    /// What a container of a pod that somebody has stopped says is no news.
    fn was_asked(&self, ended: &Termination) -> bool {
        let stop = self
            .events
            .iter()
            .find(|(_, e)| matches!(e, Event::StopRequested { .. }));
        stop.is_some_and(|(at, _)| ended.finished_at >= *at)
    }

    fn end(&self, ended: &Termination) -> Vec<(String, String)> {
        let mut evidence = vec![("exit code".to_owned(), exit_code(ended))];
        let ago = duration(self.now.since(ended.finished_at));
        let ran = ended.started_at.map(|from| ended.finished_at.since(from));
        let ran = ran.map_or_else(String::new, |ran| format!(", after {}", duration(ran)));
        evidence.push(("ended".into(), format!("{ago} ago{ran}")));
        let message = ended.message.as_ref().map(|m| m.trim_end().to_owned());
        evidence.extend(message.map(|message| ("message".into(), message)));
        evidence
    }

    fn next_try(&self, until: Time) -> (String, String) {
        (
            "next try".into(),
            format!("in {}", duration(until.since(self.now))),
        )
    }

    /// The last thing that a probe of it complained about in this or the last run.
    fn probe(&self, container: Index) -> Option<(String, String)> {
        self.events.iter().rev().find_map(|(_, event)| match event {
            Event::Unhealthy {
                container: of,
                probe,
                message,
            }
            | Event::Probed {
                container: of,
                probe,
                healthy: false,
                message,
            } if *of == container => Some((
                format!("{} probe", probe.name().to_lowercase()),
                message.clone(),
            )),
            _ => None,
        })
    }

    fn unready(&self, container: Index) -> Option<Finding> {
        let (spec, c) = (
            &self.life.spec().containers[container.0],
            &self.life.containers()[container.0],
        );
        if !c.running() || c.ready() || spec.kind == Kind::Init {
            return None;
        }
        let evidence: Vec<_> = self.probe(container).into_iter().collect();
        let what = match c.run.stop {
            Some(_) => "it is being ended",
            None if !c.is_up() => "its postStart hook is not over",
            None if evidence.is_empty() => "it waits for its first probe",
            None if !c.started() => "it has not started: its startup probe does not succeed",
            None => "it is not ready: its readiness probe does not succeed",
        };
        let advice = evidence
            .first()
            .and_then(|(_, message)| advice_of_text(message));
        Some(Finding {
            object: spec.name.clone(),
            what: what.into(),
            evidence,
            advice,
        })
    }

    /// Nothing is wrong, and still it is not done.
    fn waits_for(&self) -> Option<Finding> {
        let life = self.life;
        if life.phase() != Phase::Pending || life.finished() {
            return None;
        }
        let running = life
            .containers()
            .iter()
            .position(|c| c.running() && !c.initialized());
        let (object, what, evidence, advice) = match running {
            Some(i) => {
                let State::Running { started_at, .. } = life.containers()[i].state else {
                    return None;
                };
                let since = duration(self.now.since(started_at));
                let mut evidence = vec![("runs since".to_owned(), since)];
                let log = (self.log)(Index(i));
                if !log.is_empty() {
                    evidence.push(("last output".into(), log.join("\n")));
                }
                let name = life.spec().containers[i].name.clone();
                let what = "everything waits for this init container to end";
                (name, what, evidence, None)
            }
            None if life.start_time().is_some() && self.is_only_created() => {
                let advice = Some("runp pod start starts its containers".to_owned());
                (
                    "pod".to_owned(),
                    "it was created and not started",
                    Vec::new(),
                    advice,
                )
            }
            None => return None,
        };
        Some(Finding {
            object,
            what: what.into(),
            evidence,
            advice,
        })
    }

    fn is_only_created(&self) -> bool {
        let mut events = self.events.iter();
        !events.any(|(_, event)| *event == Event::StartRequested)
    }

    fn advice(&self, container: Index, ended: &Termination) -> Option<String> {
        let liveness = self.events.iter().rev().any(|(_, event)| {
            matches!(event, Event::Probed { container: of, probe, healthy: false, .. }
                if *of == container && *probe != ProbeKind::Readiness)
        });
        let log = (self.log)(container).join("\n");
        match ended.exit_code {
            _ if ended.reason == "OOMKilled" => {
                Some("raise resources.limits.memory of this container, or make it use less".into())
            }
            _ if ended.reason == STATUS_UNKNOWN => None,
            _ if ended.reason == "DeadlineExceeded" => {
                Some("raise the annotation runp.org/init-timeout, or make it faster".into())
            }
            _ if ended.unhealthy && liveness => Some(
                "it was ended because of its probe: mend what the probe asks, or give it more time"
                    .into(),
            ),
            _ => {
                let said = ended
                    .message
                    .iter()
                    .find_map(|message| advice_of_text(message));
                said.or_else(|| advice_of_text(&log))
                    .or_else(|| advice_of_code(ended))
            }
        }
    }
}

/// `it was killed for want of memory`, `it exited with 3`.
fn how(ended: &Termination) -> String {
    match (ended.reason, ended.signal) {
        ("OOMKilled", _) => "it was killed for want of memory".into(),
        ("StartError", _) => "its program cannot be executed".into(),
        (STATUS_UNKNOWN, _) => "it ended while nobody supervised the pod: nobody knows how".into(),
        _ if ended.unhealthy => "it was ended because a probe failed".into(),
        ("DeadlineExceeded", _) => "it took longer than it may".into(),
        (_, Some(signal)) => format!("it was killed by {}", signal_name(signal)),
        _ => format!("it exited with {}", ended.exit_code),
    }
}

fn exit_code(ended: &Termination) -> String {
    let signal = ended
        .signal
        .map(|signal| format!(", {}", signal_name(signal)));
    let reason = match ended.reason {
        "Error" | "Completed" => String::new(),
        other => format!(", {other}"),
    };
    format!("{}{}{reason}", ended.exit_code, signal.unwrap_or_default())
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |name| name.to_string())
}

fn advice_of_code(ended: &Termination) -> Option<String> {
    let advice = match (ended.exit_code, ended.signal) {
        (126, None) => "a command in it is not executable: look at its permissions",
        (127, None) => "a command in it was not found: look at the image and at PATH",
        (_, Some(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGABRT)) => {
            "its program crashed: that is a bug in it, or it is for another machine"
        }
        (_, Some(libc::SIGKILL)) => "somebody killed it, or its grace period was over",
        (_, Some(libc::SIGSYS)) => "its seccomp profile forbids a system call that it makes",
        _ => return None,
    };
    Some(advice.into())
}

/// Words of the kernel and of C libraries, and what is usually behind them.
fn advice_of_text(text: &str) -> Option<String> {
    const KNOWN: [(&str, &str); 13] = [
        (
            "nothing is there",
            "make it, or name a path of this machine that is there",
        ),
        (
            "no space left",
            "free some space, or raise the volume's sizeLimit",
        ),
        ("enospc", "free some space, or raise the volume's sizeLimit"),
        (
            "disk quota",
            "free some space, or raise the volume's sizeLimit",
        ),
        (
            "address already in use",
            "another program has this port: with hostNetwork also one of the host",
        ),
        (
            "read-only file system",
            "it writes where nothing may be written: mount a volume there",
        ),
        (
            "permission denied",
            "look at securityContext (runAsUser, capabilities) and at who owns the files",
        ),
        (
            "operation not permitted",
            "look at securityContext: capabilities that it lacks, or its seccomp profile",
        ),
        (
            "exec format error",
            "the program is for another machine, or a script without #!",
        ),
        (
            "no such file or directory",
            "look whether the path is in the image, or on a volume that is mounted there",
        ),
        (
            "not found",
            "look whether it is in the image, and whether PATH leads to it",
        ),
        (
            "connection refused",
            "nothing listens there: see whether the server runs, and on which address and port",
        ),
        (
            "timed out",
            "it takes too long: raise timeoutSeconds, or see what it waits for",
        ),
    ];
    let text = text.to_lowercase();
    let mut known = KNOWN.iter();
    known
        .find(|(words, _)| text.contains(words))
        .map(|(_, advice)| (*advice).to_owned())
}

/// How long the last lines are that count as evidence.
pub const LAST_LINES: usize = 5;

/// For people.
#[must_use]
pub fn render(name: &str, life: &Pod, findings: &[Finding], now: Time) -> String {
    let age: Duration = now.since(life.created());
    let mut text = format!(
        "{name}: {}, made {} ago\n",
        life.phase().name(),
        duration(age)
    );
    if findings.is_empty() {
        text += "Nothing is wrong with it.\n";
    }
    for finding in findings {
        text += &format!("\n{}: {}\n", finding.object, finding.what);
        for (label, evidence) in &finding.evidence {
            let mut lines = evidence.lines();
            text += &format!(
                "  {:<13}{}\n",
                format!("{label}:"),
                lines.next().unwrap_or_default()
            );
            for line in lines {
                text += &format!("  {:<13}{line}\n", "");
            }
        }
        if let Some(advice) = &finding.advice {
            text += &format!("  {:<13}{advice}\n", "what to do:");
        }
    }
    text
}
