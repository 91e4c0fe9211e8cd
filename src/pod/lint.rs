//! Warnings about manifests that are valid and still wrong.
//!
//! Only what is wrong with near certainty is told. Some rules read the shell text of `command` and `args`: for absolute
//! paths that are written (`> /path`, `>> /path`, `tee /path`), which they compare with what is mounted, and for what
//! fails when it is done again.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Looks for what is valid and probably not meant.
pub fn lint(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let inits = spec.init_containers.iter().flatten();
    let all: Vec<&Container> = inits.clone().chain(&spec.containers).collect();
    let containers: Vec<Facts> = all.iter().map(|container| facts(container)).collect();
    let mut warnings = Vec::new();
    for container in &all {
        latest(container, &mut warnings);
        probes(container, &all, &mut warnings);
    }
    let plain = inits.filter(|init| init.restart_policy.as_deref() != Some("Always"));
    let retried = |init: &&Container| {
        let own = init.restart_policy.as_deref();
        own.or(spec.restart_policy.as_deref()) != Some("Never")
    };
    for init in plain.filter(retried) {
        once(init, &mut warnings);
    }
    for container in &containers {
        beside_a_volume(container, &mut warnings);
    }
    for reader in &containers {
        for writer in &containers {
            unshared(writer, reader, &mut warnings);
        }
    }
    warnings
}

/// What a container's command does with absolute paths.
struct Facts<'a> {
    name: &'a str,
    mounts: Vec<&'a Path>,
    writes: Vec<&'a Path>,
    /// All paths that stand in it, written or not.
    mentions: Vec<&'a Path>,
}

impl Facts<'_> {
    /// Whether the path is in the container's own root, where nobody else sees it.
    fn is_own(&self, path: &Path) -> bool {
        let elsewhere = ["/dev", "/proc", "/sys"].map(Path::new);
        let mut shared = self.mounts.iter().chain(&elsewhere);
        !shared.any(|mount| path.starts_with(mount))
    }
}

fn facts(container: &Container) -> Facts<'_> {
    let command = container.command.iter().flatten();
    let texts = command.chain(container.args.iter().flatten());
    let (mut writes, mut mentions) = (Vec::new(), Vec::new());
    for text in texts {
        for (start, path) in absolute_paths(text) {
            let before = text[..start].trim_end_matches([' ', '"', '\'']);
            if before.ends_with('>') || before.ends_with("tee") || before.ends_with("tee -a") {
                writes.push(path);
            }
            mentions.push(path);
        }
    }
    let mounts = container.volume_mounts.iter().flatten();
    Facts {
        name: &container.name,
        mounts: mounts.map(|m| Path::new(&m.mount_path)).collect(),
        writes,
        mentions,
    }
}

/// Every word of a shell text that is an absolute path, with where it starts.
fn absolute_paths(text: &str) -> impl Iterator<Item = (usize, &Path)> {
    let ends_word = |c: char| c.is_whitespace() || "\"'`;|&<>()$*?[]{}=:,".contains(c);
    let starts = text.match_indices('/').map(|(start, _)| start);
    starts.filter_map(move |start| {
        let starts_word = text[..start].chars().next_back().is_none_or(ends_word);
        let end = text[start..].find(ends_word).unwrap_or(text.len() - start);
        let word = &text[start..start + end];
        // What goes on as a variable or a pattern is not known here.
        let whole = !text[start + end..].starts_with(['$', '*', '?', '[', '{', '`']);
        (starts_word && whole && word.len() > 1).then_some((start, Path::new(word)))
    })
}

/// A volume is mounted at `/opt/data` and the file is written to `/opt`.
fn beside_a_volume(container: &Facts<'_>, warnings: &mut Vec<String>) {
    for path in &container.writes {
        let directory = path.parent().filter(|d| *d != Path::new("/"));
        let beside = |mount: &&&Path| directory.is_some() && mount.parent() == directory;
        let Some(mount) = container.mounts.iter().find(beside) else {
            continue;
        };
        if container.is_own(path) {
            let text = format!(
                "container {:?} writes {}, which is beside the volume mounted at {}: no other container will see it",
                container.name,
                path.display(),
                mount.display()
            );
            if !warnings.contains(&text) {
                warnings.push(text);
            }
        }
    }
}

/// One container writes to its own root what another one looks for in its own.
fn unshared(writer: &Facts<'_>, reader: &Facts<'_>, warnings: &mut Vec<String>) {
    for path in &writer.writes {
        let read = reader.mentions.contains(path) && !reader.writes.contains(path);
        if read && writer.is_own(path) && reader.is_own(path) {
            let text = format!(
                "container {:?} writes {} to its own root file system, where container {:?} will not find it: mount a \
                 volume there in both",
                writer.name,
                path.display(),
                reader.name
            );
            if !warnings.contains(&text) {
                warnings.push(text);
            }
        }
    }
}

/// `:latest` names no image in particular.
fn latest(container: &Container, warnings: &mut Vec<String>) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.ends_with(":latest") {
        warnings.push(format!(
            "container {:?} runs {image}: what that is may change between two starts; name a version",
            container.name
        ));
    }
}

/// What fails when it is done again, and why.
const ONCE: [(&str, char, &str); 2] = [
    (
        "mkdir",
        'p',
        "mkdir fails where there is a directory (mkdir -p does not)",
    ),
    (
        "ln",
        'f',
        "ln fails where there is a link (ln -sfn does not)",
    ),
];

/// An init container may run again: when it is retried, and when the pod's sandbox is made anew, which keeps volumes.
fn once(init: &Container, warnings: &mut Vec<String>) {
    let command = init.command.iter().flatten();
    let text: Vec<&str> = command
        .chain(init.args.iter().flatten())
        .map(String::as_str)
        .collect();
    let text = text.join("\n");
    // A script that looks first, or goes on, knows what it does.
    if ["if ", "[ ", "test ", "||", "set +e", "rm "]
        .iter()
        .any(|guard| text.contains(guard))
    {
        return;
    }
    let mounts: Vec<&str> = init
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| m.mount_path.as_str())
        .collect();
    for command in text.split(['\n', ';', '&', '|']) {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let kept = |word: &&&str| {
            let path = Path::new(word.trim_matches(['"', '\'']));
            mounts
                .iter()
                .any(|mount| path.starts_with(mount) && path != Path::new(mount))
        };
        let Some(path) = words.iter().find(kept) else {
            continue;
        };
        let flag = |letter: char| {
            let mut flags = words.iter().filter(|word| word.starts_with('-'));
            flags.any(|word| word.contains(letter))
        };
        let why = match ONCE.iter().find(|(name, ..)| *name == program) {
            Some((_, letter, why)) if !flag(*letter) => *why,
            None if program == "git" && words.first() == Some(&"clone") => {
                "git clone fails where there is something"
            }
            _ => continue,
        };
        warnings.push(format!(
            "init container {:?} cannot be repeated: {why}, and {} is in a volume, which is kept",
            init.name,
            path.trim_matches(['"', '\''])
        ));
    }
}

/// A probe that asks for another container's port: containers share their addresses, and the wrong one is restarted.
fn probes(container: &Container, all: &[&Container], warnings: &mut Vec<String>) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (field, probe) in probes {
        let Some(probe) = probe else { continue };
        let port = probe
            .http_get
            .as_ref()
            .map(|get| &get.port)
            .or(probe.tcp_socket.as_ref().map(|tcp| &tcp.port));
        let grpc = probe.grpc.as_ref().map(|grpc| IntOrString::Int(grpc.port));
        let Some(port) = port.or(grpc.as_ref()) else {
            continue;
        };
        let declares = |container: &Container| {
            container.ports.iter().flatten().any(|declared| match port {
                IntOrString::Int(number) => declared.container_port == *number,
                IntOrString::String(name) => declared.name.as_ref() == Some(name),
            })
        };
        let other = all
            .iter()
            .find(|other| other.name != container.name && declares(other));
        let shown = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => name.clone(),
        };
        match other {
            Some(other) if !declares(container) => warnings.push(format!(
                "the {field} of container {:?} asks for port {shown}, which is container {:?}'s: it is not {:?} that it \
                 is about",
                container.name, other.name, container.name
            )),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};

    fn container(name: &str, script: &str, mounts: &[&str]) -> Container {
        let mount = |path: &&str| VolumeMount {
            name: "v".into(),
            mount_path: (*path).into(),
            ..Default::default()
        };
        Container {
            name: name.into(),
            command: Some(vec!["sh".into(), "-c".into(), script.into()]),
            volume_mounts: Some(mounts.iter().map(mount).collect()),
            ..Default::default()
        }
    }

    fn warnings(containers: Vec<Container>) -> Vec<String> {
        lint(&Pod {
            spec: Some(PodSpec {
                containers,
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    #[test]
    fn writing_beside_a_volume_is_told() {
        for script in [
            "echo hello > /opt/123.txt",
            "echo hello >>/opt/123.txt; sleep 1",
            "echo hello | tee /opt/123.txt",
            "echo hello | tee -a \"/opt/123.txt\"",
        ] {
            assert_eq!(
                warnings(vec![container("a", script, &["/opt/data"])]),
                [
                    "container \"a\" writes /opt/123.txt, which is beside the volume mounted at /opt/data: no other container will see it"
                ],
                "{script}"
            );
        }
    }

    #[test]
    fn nothing_else_is_told() {
        for script in [
            "echo hello > /opt/data/123.txt",
            "cat /opt/123.txt",
            "echo hello > /tmp/x",
            "echo hello > /dev/null",
            "echo hello > /opt/$NAME",
            "echo a/opt/123.txt 2>&1",
            "echo > /",
            "",
        ] {
            let found = warnings(vec![container("a", script, &["/opt/data"])]);
            assert_eq!(found, Vec::<String>::new(), "{script}");
        }
    }

    #[test]
    fn a_file_that_the_reader_cannot_see_is_told() {
        let write = |mounts: &[&str]| container("a", "date > /out/now", mounts);
        let read = |mounts: &[&str]| container("b", "cat /out/now", mounts);
        assert_eq!(
            warnings(vec![write(&[]), read(&[])]),
            [
                "container \"a\" writes /out/now to its own root file system, where container \"b\" will not find it: mount a volume there in both"
            ]
        );
        assert!(warnings(vec![write(&["/out"]), read(&["/out"])]).is_empty());
        let both = container("b", "date > /out/now; cat /out/now", &[]);
        assert!(warnings(vec![write(&[]), both]).is_empty());
    }

    fn lint_of(spec: serde_json::Value) -> Vec<String> {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        lint(&Pod {
            spec: Some(spec),
            ..Default::default()
        })
    }

    #[test]
    fn an_image_without_a_version_is_told() {
        let containers =
            |image: &str| serde_json::json!({"containers": [{"name": "a", "image": image}]});
        assert_eq!(
            lint_of(containers("x:latest")),
            [
                "container \"a\" runs x:latest: what that is may change between two starts; name a version"
            ]
        );
        for image in ["x", "x:1", "x:latest@sha256:00", "latest"] {
            assert!(lint_of(containers(image)).is_empty(), "{image}");
        }
    }

    #[test]
    fn an_init_that_cannot_be_repeated_is_told() {
        let told = |script: &str, policy: &str| {
            lint_of(serde_json::json!({
                "restartPolicy": policy,
                "initContainers": [{"name": "i", "command": ["sh", "-c", script],
                                    "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
                "containers": [{"name": "a"}],
            }))
        };
        assert_eq!(
            told("date; mkdir /v/x && touch /v/x/y", "Always"),
            [
                "init container \"i\" cannot be repeated: mkdir fails where there is a directory (mkdir -p does not), and /v/x is in a volume, which is kept"
            ]
        );
        for script in [
            "ln -s /a '/v/b'",
            "git clone https://example.com/x /v/x",
            "mkdir -m 700 \"/v/x\"",
        ] {
            assert_eq!(told(script, "OnFailure").len(), 1, "{script}");
            assert!(told(script, "Never").is_empty(), "{script}");
        }
        for script in [
            "mkdir -p /v/x",
            "mkdir /tmp/x",
            "mkdir /v/x || true",
            "[ -d /v/x ] || mkdir /v/x",
            "ln -sfn a /v/b",
            "git pull /v/x",
            "rm -rf /v/x; mkdir /v/x",
            "echo mkdir /v/x",
            "ls /v",
            "mkdir /v",
        ] {
            assert_eq!(told(script, "Always"), Vec::<String>::new(), "{script}");
        }
    }

    #[test]
    fn a_probe_of_another_containers_port_is_told() {
        let told = |probe: serde_json::Value| {
            lint_of(serde_json::json!({"containers": [
                {"name": "a", "livenessProbe": probe, "ports": [{"containerPort": 1, "name": "one"}]},
                {"name": "b", "ports": [{"containerPort": 2, "name": "two"}]},
            ]}))
        };
        for probe in [
            serde_json::json!({"httpGet": {"port": 2}}),
            serde_json::json!({"tcpSocket": {"port": 2}}),
            serde_json::json!({"grpc": {"port": 2}}),
        ] {
            assert_eq!(
                told(probe),
                [
                    "the livenessProbe of container \"a\" asks for port 2, which is container \"b\"'s: it is not \"a\" that it is about"
                ]
            );
        }
        for probe in [
            serde_json::json!({"httpGet": {"port": 1}}),
            serde_json::json!({"httpGet": {"port": "one"}}),
            serde_json::json!({"httpGet": {"port": 3}}),
            serde_json::json!({"exec": {"command": ["a"]}}),
        ] {
            assert!(told(probe).is_empty());
        }
    }
}
