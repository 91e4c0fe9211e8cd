//! Warnings about manifests that are valid and still wrong.
//!
//! Only what is wrong with near certainty is told: each rule reads the shell text of `command` and `args` for absolute
//! paths that are written (`> /path`, `>> /path`, `tee /path`) and compares them with what is mounted.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};

/// Looks for what is valid and probably not meant.
pub fn lint(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let inits = spec.init_containers.iter().flatten();
    let containers: Vec<Facts> = inits.chain(&spec.containers).map(facts).collect();
    let mut warnings = Vec::new();
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

#[cfg(test)]
mod tests {
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
}
