//! Device rules as writes to `devices.deny` and `devices.allow`, for cgroup v1. Pure.
//!
//! A v1 cgroup is a list of exceptions, either to "all is denied" or to "all is allowed". A rule in it wins by being
//! there and not by its place, and one single exception must grant all that an open asks for: rules whose meaning
//! hangs on their order are made into such a list here, or refused when there is none.
//! <https://docs.kernel.org/admin-guide/cgroup-v1/devices.html>

use super::{Access, Kind, Pattern, Rule, Rules};
use crate::error::{Error, Result};

/// A file of the cgroup and the line for it; each line takes a write of its own.
pub type Line = (&'static str, String);

/// The lines that make a cgroup decide as the rules do. Empty if they allow everything.
///
/// # Errors
/// Rules that take a device out of a larger set that others give, or the other way round.
pub fn lines(rules: &Rules) -> Result<Vec<Line>> {
    if rules.allow_everything() {
        return Ok(Vec::new());
    }
    let allowed_first = [Kind::Char, Kind::Block].map(|kind| {
        rules.iter().any(|rule| {
            rule.allow && rule.access == Access::ALL && rule.pattern == Pattern::all(kind)
        })
    });
    let (start, file, give) = if allowed_first == [true, true] {
        ("devices.allow", "devices.deny", false)
    } else {
        ("devices.deny", "devices.allow", true)
    };
    let exceptions = exceptions(rules, give)?;
    let mut lines = vec![(start, "a".to_owned())];
    lines.extend(exceptions.iter().map(|e| (file, line(e))));
    Ok(lines)
}

/// The exceptions: what is given (`give`) where all is denied, or taken where all is allowed.
fn exceptions(rules: &Rules, give: bool) -> Result<Vec<(Pattern, Access)>> {
    let mut exceptions: Vec<(Pattern, Access)> = Vec::new();
    for rule in rules.iter() {
        if rule.allow == give {
            add(&mut exceptions, rule.pattern, rule.access);
            continue;
        }
        for (pattern, access) in &mut exceptions {
            let both = *access & rule.access;
            if both == Access::NONE || pattern.intersection(rule.pattern).is_none() {
                continue;
            }
            if !rule.pattern.covers(*pattern) {
                return Err(impossible(rule, *pattern));
            }
            *access = *access & !rule.access;
        }
        exceptions.retain(|(_, access)| *access != Access::NONE);
    }
    if give {
        close_intersections(&mut exceptions);
    }
    Ok(exceptions)
}

fn add(exceptions: &mut Vec<(Pattern, Access)>, pattern: Pattern, access: Access) {
    match exceptions.iter_mut().find(|(p, _)| *p == pattern) {
        Some((_, a)) => *a = *a | access,
        None => exceptions.push((pattern, access)),
    }
}

/// Where two exceptions overlap, one that grants what both do: a read-write open is not put together from two.
fn close_intersections(exceptions: &mut Vec<(Pattern, Access)>) {
    let mut at = 0;
    while at < exceptions.len() {
        for other in 0..at {
            let ((a, access_a), (b, access_b)) = (exceptions[at], exceptions[other]);
            let access = access_a | access_b;
            let Some(both) = a.intersection(b) else {
                continue;
            };
            let granted = exceptions
                .iter()
                .any(|(p, a)| p.covers(both) && access & !*a == Access::NONE);
            if !granted {
                add(exceptions, both, access);
                // What has grown is compared again with all before it.
                at = 0;
                break;
            }
        }
        at += 1;
    }
}

fn impossible(rule: &Rule, exception: Pattern) -> Error {
    let verb = if rule.allow { "allow" } else { "deny" };
    let (inner, outer) = (
        line(&(rule.pattern, rule.access)),
        line(&(exception, rule.access)),
    );
    Error::new(format!(
        "{verb} {inner:?} within {outer:?}: cgroup v1 cannot except a part of an exception"
    ))
    .hint("list the devices one by one, or use a machine with cgroup v2")
}

fn line((pattern, access): &(Pattern, Access)) -> String {
    let kind = match pattern.kind {
        Kind::Char => 'c',
        Kind::Block => 'b',
    };
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    let (major, minor) = (number(pattern.major), number(pattern.minor));
    format!("{kind} {major}:{minor} {}", access.letters())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::{a_device, allowed, of, rules, some_rules};
    use super::*;
    use proptest::prelude::*;

    /// A v1 cgroup below one that allows all: security/device_cgroup.c.
    struct Kernel {
        allow: bool,
        exceptions: Vec<(Pattern, Access)>,
    }

    impl Kernel {
        fn told(lines: &[Line]) -> Self {
            let mut kernel = Self {
                allow: true,
                exceptions: Vec::new(),
            };
            for (file, line) in lines {
                let allow = *file == "devices.allow";
                if line == "a" {
                    kernel.allow = allow;
                    kernel.exceptions.clear();
                    continue;
                }
                assert_ne!(allow, kernel.allow, "an exception, not a removal");
                let words: Vec<_> = line.split([' ', ':']).collect();
                let number = |w: &str| (w != "*").then(|| w.parse().unwrap());
                let pattern = Pattern {
                    kind: if words[0] == "c" {
                        Kind::Char
                    } else {
                        Kind::Block
                    },
                    major: number(words[1]),
                    minor: number(words[2]),
                };
                let mut access = Access::NONE;
                for (letter, bit) in [
                    ('r', Access::READ),
                    ('w', Access::WRITE),
                    ('m', Access::MKNOD),
                ] {
                    if words[3].contains(letter) {
                        access = access | bit;
                    }
                }
                add(&mut kernel.exceptions, pattern, access);
            }
            kernel
        }

        fn allows(&self, device: Pattern, access: Access) -> bool {
            let mut matching = self.exceptions.iter().filter(|(p, _)| p.covers(device));
            if self.allow {
                !matching.any(|(_, a)| *a & access != Access::NONE)
            } else {
                matching.any(|(_, a)| access & !*a == Access::NONE)
            }
        }
    }

    #[test]
    fn a_default_container() {
        let lines = lines(&rules(r#"[{"allow": false, "access": "rwm"}]"#)).unwrap();
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert_eq!(lines[1], ("devices.allow", "c *:* m".to_owned()));
        assert_eq!(lines[3], ("devices.allow", "c 1:3 rwm".to_owned()));
        assert_eq!(lines.len(), 11);
    }

    #[test]
    fn all_but_one() {
        let rules = rules(
            r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 8, "access": "w"}]"#,
        );
        let expected = vec![
            ("devices.allow", "a".to_owned()),
            ("devices.deny", "b 8:* w".to_owned()),
        ];
        assert_eq!(lines(&rules).unwrap(), expected);
    }

    #[test]
    fn a_part_of_a_part_is_refused_and_not_ignored() {
        let rules = rules(
            r#"[{"allow": true, "type": "b", "major": 8, "access": "rw"},
                {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"}]"#,
        );
        let error = lines(&rules).unwrap_err().to_string();
        assert!(
            error.starts_with("deny \"b 8:1 w\" within \"b 8:* w\": "),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_list_decides_as_the_rules(list in some_rules(), (device, access) in a_device()) {
            let rules = of(list);
            if let Ok(lines) = lines(&rules) {
                let all: Vec<Rule> = rules.iter().copied().collect();
                prop_assert_eq!(Kernel::told(&lines).allows(device, access), allowed(&all, device, access));
            }
        }
    }
}
