//! Which devices a container may use: `linux.resources.devices`, on top of nothing. Pure.
//!
//! Everything is denied unless a rule allows it, also with an empty list (GHSA-g54h-m393-cpwq). Each of the three
//! accesses is decided on its own, by the last rule that speaks of it. Two kernels are told: [`program`] is exact,
//! [`legacy`] refuses what a v1 hierarchy cannot express.

pub(super) mod kernel;
pub mod legacy;
pub mod program;

use std::ops::{BitAnd, BitOr, Not};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::Error;

/// The rules of a container, in the order in which they are applied, the first one on top of nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// One rule; `None` stands for all of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether it gives or takes.
    pub allow: bool,
    /// Of which devices.
    pub pattern: Pattern,
    /// What.
    pub access: Access,
}

/// A set of devices; `None` stands for all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Pattern {
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
}

/// The two kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Char,
    Block,
}

/// A set of `rwm`: the kernel's bits `DEVCG_ACC_*`, the same as `BPF_DEVCG_ACC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

#[allow(missing_docs)]
impl Access {
    pub const NONE: Self = Self(0);
    pub const MKNOD: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const WRITE: Self = Self(4);
    pub const ALL: Self = Self(7);

    /// The kernel's bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    fn letters(self) -> String {
        let letters = [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::MKNOD, 'm')];
        let set = letters.iter().filter(|(bit, _)| self & *bit != Self::NONE);
        set.map(|(_, letter)| letter).collect()
    }
}

impl BitAnd for Access {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Access {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for Access {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

impl Pattern {
    fn all(kind: Kind) -> Self {
        Self {
            kind,
            major: None,
            minor: None,
        }
    }

    /// The devices in both.
    fn intersection(self, other: Self) -> Option<Self> {
        let number = |a: Option<u32>, b: Option<u32>| match (a, b) {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.or(b)),
        };
        Some(Self {
            kind: (self.kind == other.kind).then_some(self.kind)?,
            major: number(self.major, other.major)?,
            minor: number(self.minor, other.minor)?,
        })
    }

    fn covers(self, other: Self) -> bool {
        self.intersection(other) == Some(other)
    }
}

/// What every container may do, appended to its own rules, as in runc: make any node (it may be used only if another
/// rule says so), and use the default devices of the runtime-spec and the pseudo terminals.
const DEFAULT: [(Kind, Option<u32>, Option<u32>, Access); 10] = [
    (Kind::Char, None, None, Access::MKNOD),
    (Kind::Block, None, None, Access::MKNOD),
    (Kind::Char, Some(1), Some(3), Access::ALL), // null
    (Kind::Char, Some(1), Some(5), Access::ALL), // zero
    (Kind::Char, Some(1), Some(7), Access::ALL), // full
    (Kind::Char, Some(1), Some(8), Access::ALL), // random
    (Kind::Char, Some(1), Some(9), Access::ALL), // urandom
    (Kind::Char, Some(5), Some(0), Access::ALL), // tty
    (Kind::Char, Some(5), Some(2), Access::ALL), // ptmx
    (Kind::Char, Some(136), None, Access::ALL),  // pts
];

impl Rules {
    /// Reads `linux.resources.devices`; `prefix` is where it stands in the input.
    pub fn from_list(list: &[LinuxDeviceCgroup], prefix: &str, errors: &mut Vec<Error>) -> Self {
        let mut rules = Vec::new();
        for (i, entry) in list.iter().enumerate() {
            match read(entry) {
                Ok(read) => rules.extend(read),
                Err((field, value, why, hint)) => errors
                    .push(Error::new(format!("{prefix}[{i}].{field}: {value}: {why}")).hint(hint)),
            }
        }
        rules.extend(DEFAULT.map(|(kind, major, minor, access)| Rule {
            allow: true,
            pattern: Pattern { kind, major, minor },
            access,
        }));
        Self(without_the_overruled(rules))
    }

    /// Whether nothing at all is denied, so that the kernel needs to be told nothing.
    pub fn allow_everything(&self) -> bool {
        [Kind::Char, Kind::Block].into_iter().all(|kind| {
            let everything = Rule {
                allow: true,
                pattern: Pattern::all(kind),
                access: Access::ALL,
            };
            self.0
                .iter()
                .all(|rule| rule.allow || rule.pattern.kind != kind)
                && self.0.contains(&everything)
        })
    }

    /// The rules, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Rule> {
        self.0.iter()
    }
}

/// Leaves out each rule of which a later one says all that it does.
fn without_the_overruled(rules: Vec<Rule>) -> Vec<Rule> {
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rules.into_iter().rev() {
        let overruled = kept.iter().any(|later| {
            later.pattern.covers(rule.pattern) && rule.access & !later.access == Access::NONE
        });
        if !overruled {
            kept.push(rule);
        }
    }
    kept.reverse();
    kept
}

type Refusal = (&'static str, String, &'static str, &'static str);

/// One entry of the list: two rules if it speaks of both kinds.
fn read(entry: &LinuxDeviceCgroup) -> Result<Vec<Rule>, Refusal> {
    let kinds: &[Kind] = match entry.typ() {
        None | Some(LinuxDeviceType::A) => &[Kind::Char, Kind::Block],
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[Kind::Char],
        Some(LinuxDeviceType::B) => &[Kind::Block],
        Some(LinuxDeviceType::P) => {
            let hint = "a, b or c: a FIFO needs no rule";
            return Err(("type", "p".into(), "not a device", hint));
        }
    };
    let number = |field, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(v) => u32::try_from(v).map(Some).map_err(|_| {
            let hint = "leave it out for all";
            (field, v.to_string(), "not a device number", hint)
        }),
    };
    let (major, minor) = (
        number("major", entry.major())?,
        number("minor", entry.minor())?,
    );
    let letters = entry.access().as_deref().unwrap_or_default();
    let mut access = Access::NONE;
    for letter in letters.chars() {
        access = access
            | match letter {
                'r' => Access::READ,
                'w' => Access::WRITE,
                'm' => Access::MKNOD,
                _ => Access::NONE,
            };
    }
    if letters.is_empty() || letters.chars().any(|c| !"rwm".contains(c)) {
        let hint = "one or more of the letters r, w and m";
        return Err(("access", format!("{letters:?}"), "not an access", hint));
    }
    Ok(kinds
        .iter()
        .map(|kind| Rule {
            allow: entry.allow(),
            pattern: Pattern {
                kind: *kind,
                major,
                minor,
            },
            access,
        })
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn rules(json: &str) -> Rules {
        let mut errors = Vec::new();
        let list: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        let rules = Rules::from_list(&list, "devices", &mut errors);
        assert_eq!(errors, vec![]);
        rules
    }

    /// What the rules say, spelt out: the reference for both kernels.
    pub(crate) fn allowed(rules: &[Rule], device: Pattern, access: Access) -> bool {
        [Access::READ, Access::WRITE, Access::MKNOD]
            .into_iter()
            .filter(|bit| access & *bit != Access::NONE)
            .all(|bit| {
                let last = rules
                    .iter()
                    .rev()
                    .find(|rule| rule.pattern.covers(device) && rule.access & bit != Access::NONE);
                last.is_some_and(|rule| rule.allow)
            })
    }

    pub(crate) fn a_device() -> impl Strategy<Value = (Pattern, Access)> {
        (any::<bool>(), 0..3u32, 0..3u32, 1..8u8).prop_map(|(char, major, minor, access)| {
            let kind = if char { Kind::Char } else { Kind::Block };
            let pattern = Pattern {
                kind,
                major: Some(major),
                minor: Some(minor),
            };
            (pattern, Access(access))
        })
    }

    /// Few numbers, so that patterns overlap.
    pub(crate) fn some_rules() -> impl Strategy<Value = Vec<Rule>> {
        let number = || prop_oneof![Just(None), (0..3u32).prop_map(Some)];
        let rule = (any::<bool>(), any::<bool>(), number(), number(), 1..8u8).prop_map(
            |(allow, char, major, minor, access)| Rule {
                allow,
                pattern: Pattern {
                    kind: if char { Kind::Char } else { Kind::Block },
                    major,
                    minor,
                },
                access: Access(access),
            },
        );
        proptest::collection::vec(rule, 0..8)
    }

    pub(crate) fn of(rules: Vec<Rule>) -> Rules {
        Rules(without_the_overruled(rules))
    }

    fn device(kind: Kind, major: u32, minor: u32) -> Pattern {
        Pattern {
            kind,
            major: Some(major),
            minor: Some(minor),
        }
    }

    #[test]
    fn an_empty_list_denies_all_but_the_default_devices() {
        let rules = rules("[]");
        let may = |d, access| allowed(&rules.0, d, access);
        assert!(may(device(Kind::Char, 1, 3), Access::ALL));
        assert!(may(device(Kind::Char, 136, 7), Access::ALL));
        assert!(may(device(Kind::Block, 259, 0), Access::MKNOD));
        assert!(!may(device(Kind::Block, 259, 0), Access::READ));
        assert!(!may(device(Kind::Char, 1, 1), Access::READ));
        assert!(!may(device(Kind::Char, 10, 200), Access::WRITE));
        assert!(!rules.allow_everything());
    }

    #[test]
    fn the_default_devices_outlive_a_denial_of_all() {
        let denied = rules(r#"[{"allow": false, "access": "rwm"}]"#);
        assert!(allowed(&denied.0, device(Kind::Char, 5, 2), Access::ALL));
        assert!(!allowed(&denied.0, device(Kind::Char, 5, 1), Access::READ));
    }

    #[test]
    fn knows_when_everything_is_allowed() {
        assert!(rules(r#"[{"allow": true, "access": "rwm"}]"#).allow_everything());
        assert!(
            rules(r#"[{"allow": false, "access": "rwm"}, {"allow": true, "access": "mrw", "type": "a"}]"#)
                .allow_everything()
        );
        assert!(!rules(r#"[{"allow": true, "access": "rw"}]"#).allow_everything());
        assert!(
            !rules(r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 8, "access": "w"}]"#)
                .allow_everything()
        );
    }

    #[test]
    fn names_what_is_wrong() {
        let table = [
            (
                r#"{"allow": true, "type": "p", "access": "r"}"#,
                "devices[0].type: p: ",
            ),
            (
                r#"{"allow": true, "type": "c", "major": -2, "access": "r"}"#,
                "devices[0].major: -2: ",
            ),
            (
                r#"{"allow": true, "type": "c", "minor": 4294967296, "access": "r"}"#,
                "devices[0].minor: 4294967296: ",
            ),
            (r#"{"allow": true}"#, "devices[0].access: \"\": "),
            (
                r#"{"allow": true, "access": "rx"}"#,
                "devices[0].access: \"rx\": ",
            ),
        ];
        for (json, start) in table {
            let mut errors = Vec::new();
            let entry = serde_json::from_str(json).unwrap();
            Rules::from_list(&[entry], "devices", &mut errors);
            assert_eq!(errors.len(), 1, "{json}");
            assert!(errors[0].to_string().starts_with(start), "{}", errors[0]);
        }
    }

    proptest! {
        #[test]
        fn leaving_out_the_overruled_changes_nothing(rules in some_rules(), (device, access) in a_device()) {
            let kept = without_the_overruled(rules.clone());
            prop_assert_eq!(allowed(&kept, device, access), allowed(&rules, device, access));
        }

        #[test]
        fn allow_everything_means_it(rules in some_rules(), (device, access) in a_device()) {
            let rules = of(rules);
            prop_assert!(!rules.allow_everything() || allowed(&rules.0, device, access));
        }
    }
}
