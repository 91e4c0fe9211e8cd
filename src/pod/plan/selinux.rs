//! `seLinuxOptions`: the contexts of a container's processes and of its files.
//!
//! As containerd and CRI-O do it: the policy's own contexts for containers (`lxc_contexts`), in which the options take the
//! place of its parts. Files get their user and level from the options, their role and type from the policy.
//!
//! Source: `container_create_linux.go` of containerd, `label.InitLabels` of opencontainers/selinux.

use super::containers_of;
use k8s_openapi::api::core::v1::{Container, PodSpec, SELinuxOptions};

use crate::error::{Error, Result};

/// Where the policy in use has them, below `/etc/selinux/<SELINUXTYPE>`.
const CONTEXTS: &str = "contexts/lxc_contexts";
/// Categories of a policy with many: `c0` to `c1023`.
const CATEGORIES: u64 = 1024;

/// The policy's contexts for containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Of processes.
    pub process: String,
    /// Of files.
    pub file: String,
}

/// Those of one container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contexts {
    pub(super) process: String,
    pub(super) file: String,
}

impl Policy {
    /// The one that this machine has loaded; `None` if it has none of them.
    pub fn of_this_machine() -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let config = read("/etc/selinux/config");
        let mut lines = config.lines();
        let kind = lines.find_map(|line| line.trim().strip_prefix("SELINUXTYPE="));
        let path = format!(
            "/etc/selinux/{}/{CONTEXTS}",
            kind.unwrap_or("targeted").trim()
        );
        Self::parse(&read(&path))
    }

    /// `process = "USER:ROLE:TYPE:LEVEL"`, and `file` likewise.
    fn parse(text: &str) -> Option<Self> {
        let find = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let (_, context) = lines.find(|(key, _)| key.trim() == name)?;
            let context = context.trim().trim_matches('"');
            (context.split(':').count() >= 3).then(|| context.to_owned())
        };
        Some(Self {
            process: find("process")?,
            file: find("file")?,
        })
    }

    /// The contexts that these options ask for, in the pod of this uid.
    fn with(&self, options: &SELinuxOptions, uid: &str) -> std::result::Result<Contexts, String> {
        let set = |option: &Option<String>| option.clone().filter(|text| !text.is_empty());
        let level = set(&options.level);
        if let Some(level) = level.as_deref().filter(|level| !is_level(level)) {
            return Err(format!(
                "level: Invalid value: {level:?}: must be like s0, s0:c1,c2 or s0-s0:c1.c3"
            ));
        }
        let own = |context: &str| {
            let level = context.splitn(4, ':').nth(3)?;
            let sensitivity = level.split([':', '-']).next()?;
            Some(format!("{sensitivity}:{}", categories(uid)))
        };
        let level = level.or_else(|| own(&self.process));
        let context = |base: &str, role: Option<String>, kind: Option<String>| {
            let parts: Vec<&str> = base.splitn(4, ':').collect();
            let options = [set(&options.user), role, kind, level.clone()];
            let parts = parts.iter().zip(options);
            let parts = parts.map(|(part, option)| option.unwrap_or_else(|| (*part).to_owned()));
            parts.collect::<Vec<_>>().join(":")
        };
        Ok(Contexts {
            process: context(&self.process, set(&options.role), set(&options.type_)),
            file: context(&self.file, None, None),
        })
    }
}

/// Two categories that are a pod's own, the same for all its containers and whenever it is planned. Of other pods some may have
/// them, too: there are half a million pairs.
fn categories(uid: &str) -> String {
    // FNV-1a.
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let first = hash % CATEGORIES;
    let other = (first + 1 + (hash >> 32) % (CATEGORIES - 1)) % CATEGORIES;
    format!("c{},c{}", first.min(other), first.max(other))
}

/// `s0`, `s0-s1`, and with categories behind a colon: `c1`, `c1.c3`, separated by commas.
fn is_level(level: &str) -> bool {
    let (sensitivities, categories) = match level.split_once(':') {
        Some((sensitivities, categories)) => (sensitivities, Some(categories)),
        None => (level, None),
    };
    let is = |text: &str, letter: char, digits: usize| {
        text.strip_prefix(letter).is_some_and(|number| {
            (1..=digits).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let is_range = |text: &str, between: char, letter, digits| match text.split_once(between) {
        Some((low, high)) => is(low, letter, digits) && is(high, letter, digits),
        None => is(text, letter, digits),
    };
    let categories = categories.map(|all| all.split(',').all(|one| is_range(one, '.', 'c', 4)));
    is_range(sensitivities, '-', 's', 2) && categories != Some(false)
}

/// The contexts of a container; `None` without options. A container has its own options or the pod's, whole.
pub(super) fn contexts(
    policy: &Policy,
    uid: &str,
    pod: &PodSpec,
    path: &str,
    container: &Container,
) -> Result<Option<Contexts>> {
    let own = container.security_context.as_ref();
    let own = own.and_then(|context| context.se_linux_options.as_ref());
    let pod = pod.security_context.as_ref();
    let pod = pod.and_then(|context| context.se_linux_options.as_ref());
    let Some(options) = own.or(pod) else {
        return Ok(None);
    };
    let path = match own {
        Some(_) => path,
        None => "spec",
    };
    let field = |why| Error::new(format!("{path}.securityContext.seLinuxOptions.{why}"));
    policy.with(options, uid).map(Some).map_err(field)
}

/// The fields that are about SELinux.
pub(super) fn fields(spec: &PodSpec) -> Vec<String> {
    let pod = spec.security_context.as_ref();
    let mut fields = Vec::new();
    if pod.is_some_and(|c| c.se_linux_options.is_some()) {
        fields.push("spec.securityContext.seLinuxOptions".to_owned());
    }
    for (path, _, container) in containers_of(spec) {
        let context = container.security_context.as_ref();
        if context.is_some_and(|c| c.se_linux_options.is_some()) {
            fields.push(format!("{path}.securityContext.seLinuxOptions"));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy() -> Policy {
        Policy::parse(
            "process = \"system_u:system_r:container_t:s0\"\ncontent = \"system_u:object_r:virt_var_lib_t:s0\"\n\
             file = \"system_u:object_r:container_file_t:s0\"\n",
        )
        .unwrap()
    }

    fn options(user: &str, role: &str, kind: &str, level: &str) -> SELinuxOptions {
        let set = |text: &str| Some(text.to_owned());
        SELinuxOptions {
            user: set(user),
            role: set(role),
            type_: set(kind),
            level: set(level),
        }
    }

    #[test]
    fn options_take_the_place_of_parts() {
        let contexts = policy()
            .with(&options("u", "r", "t", "s0:c1,c2"), "uid")
            .unwrap();
        assert_eq!(contexts.process, "u:r:t:s0:c1,c2");
        assert_eq!(contexts.file, "u:object_r:container_file_t:s0:c1,c2");
        let contexts = policy()
            .with(&options("", "", "spc_t", "s0"), "uid")
            .unwrap();
        assert_eq!(contexts.process, "system_u:system_r:spc_t:s0");
        assert_eq!(contexts.file, "system_u:object_r:container_file_t:s0");
    }

    #[test]
    fn a_pod_has_categories_of_its_own() {
        let of = |uid| policy().with(&SELinuxOptions::default(), uid).unwrap();
        let contexts = of("a");
        let (base, level) = contexts
            .process
            .split_at("system_u:system_r:container_t:".len());
        assert_eq!(base, "system_u:system_r:container_t:");
        assert!(is_level(level) && level.contains(','), "{level}");
        assert!(contexts.file.ends_with(level), "{contexts:?}");
        assert_eq!(of("a"), contexts);
        assert_ne!(of("b"), contexts);
        for number in 0..10_000 {
            let both = categories(&number.to_string());
            let (low, high) = both.split_once(',').unwrap();
            let [low, high] = [low, high].map(|c| c[1..].parse::<u64>().unwrap());
            assert!(low < high && high < CATEGORIES, "{both}");
        }
    }

    #[test]
    fn a_policy_without_levels_gets_none() {
        let policy = Policy::parse("process = \"u:r:t\"\nfile = \"u:o:f\"").unwrap();
        let contexts = policy.with(&SELinuxOptions::default(), "uid").unwrap();
        assert_eq!((&*contexts.process, &*contexts.file), ("u:r:t", "u:o:f"));
    }

    #[test]
    fn levels_are_as_the_kubelets_runtimes_want_them() {
        for right in [
            "s0",
            "s0-s0",
            "s0:c0",
            "s0:c0.c3",
            "s0:c0,c3",
            "s0-s0:c0,c3.c6,c8.c1023",
        ] {
            assert!(is_level(right), "{right}");
        }
        for wrong in [
            "",
            "s",
            "s0,c0",
            "s0:",
            "s0:c0:c1",
            "s0:c",
            "c0",
            "s0-",
            "s0:c0.c1.c2",
            "s0:c12345",
        ] {
            assert!(!is_level(wrong), "{wrong}");
        }
        let error = policy()
            .with(&options("", "", "", "s0,c1"), "uid")
            .unwrap_err();
        assert!(error.contains("\"s0,c1\""), "{error}");
    }

    #[test]
    fn what_has_no_contexts_is_no_policy() {
        for text in [
            "",
            "process = \"u:r:t:s0\"",
            "process = \"\"\nfile = \"u:o:f\"",
        ] {
            assert_eq!(Policy::parse(text), None, "{text}");
        }
    }
}
