//! Limits in the kernel's words: which file of which controller gets which value, and what it must say afterwards. Pure.
//!
//! <https://docs.kernel.org/admin-guide/cgroup-v1/> and <https://docs.kernel.org/admin-guide/cgroup-v2.html>.

use std::collections::BTreeSet;

use super::Bound;

/// One write into one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As in `cgroup.controllers` or `/proc/cgroups`; `cgroup` for files that every v2 cgroup has.
    pub controller: String,
    /// Its name in the cgroup's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// What the kernel must say afterwards.
    pub expect: Expect,
    /// What to do if there is no such file.
    pub absent: Absent,
}

/// What a file must say once a limit was written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Anything: the kernel may have written it in a form of its own.
    Anything,
    /// This.
    Exactly(String),
    /// The numbers of this list, cpuset(7), in whichever way they are written.
    Numbers(String),
    /// A line for this key, with these words in it.
    Line(String, Vec<String>),
    /// No line for this key, or one with this word in it: the limit is lifted.
    Lifted(String, String),
}

/// What to do if a kernel does not have a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The limit cannot be set: an error.
    Refuse,
    /// Nothing: there is nothing to limit.
    Skip,
    /// This is set.
    Instead(Box<Setting>),
}

/// One limit, in the words of both versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its JSON path.
    pub field: String,
    /// On a v1 hierarchy.
    pub v1: Form,
    /// On the v2 hierarchy.
    pub v2: Form,
}

/// How a version expresses a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Never empty, all of one controller.
    Files(Vec<Setting>),
    /// Not at all, and why.
    Impossible(&'static str),
}

pub(super) const NOT_ON_V2: Form = Form::Impossible("cgroup v2 has no such limit");

/// The limits that were asked for.
pub(super) struct Table<'a> {
    /// Where they are in the input.
    pub(super) prefix: &'a str,
    pub(super) rows: Vec<Limit>,
}

impl Table<'_> {
    pub(super) fn add(&mut self, field: &str, v1: impl Into<Form>, v2: impl Into<Form>) {
        self.rows.push(Limit {
            field: format!("{}.{field}", self.prefix),
            v1: v1.into(),
            v2: v2.into(),
        });
    }
}

impl From<Setting> for Form {
    fn from(setting: Setting) -> Self {
        Self::Files(vec![setting])
    }
}

impl Setting {
    /// A value that the kernel must show as it was written.
    pub(super) fn new(controller: &str, file: impl Into<String>, value: impl ToString) -> Self {
        let value = value.to_string();
        Self {
            controller: controller.to_owned(),
            file: file.into(),
            expect: Expect::Exactly(value.clone()),
            value,
            absent: Absent::Refuse,
        }
    }

    /// A line `key word word`.
    pub(super) fn line(controller: &str, file: impl Into<String>, line: impl ToString) -> Self {
        let setting = Self::new(controller, file, line);
        let expect = Expect::line(&setting.value);
        Self { expect, ..setting }
    }

    pub(super) fn expect(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }

    pub(super) fn or(self, absent: Absent) -> Self {
        Self { absent, ..self }
    }

    pub(super) fn or_else(self, instead: Self) -> Self {
        self.or(Absent::Instead(Box::new(instead)))
    }

    /// What to write so that the file says what it said `before`.
    pub fn back_to(&self, before: &str) -> String {
        let (Expect::Line(key, _) | Expect::Lifted(key, _)) = &self.expect else {
            // A cpuset of v2 that has no list of its own; a write of nothing would not reach the kernel.
            return match before {
                "" => "\n".to_owned(),
                before => before.to_owned(),
            };
        };
        match (line_of(before, key), self.file.as_str()) {
            // It shows a line for what it is told as a number.
            (Some(words), "memory.oom_control") => words.concat(),
            (Some(words), _) => format!("{key} {}", words.join(" ")),
            // A device without a line has no limit, which each file has another word for.
            (None, "io.max") => format!("{key} rbps=max wbps=max riops=max wiops=max"),
            (None, "rdma.max") => format!("{key} hca_handle=max hca_object=max"),
            (None, "io.weight" | "io.bfq.weight" | "blkio.bfq.weight_device") => {
                format!("{key} default")
            }
            (None, _) => format!("{key} 0"),
        }
    }
}

impl Expect {
    /// The line `key word word`.
    pub(super) fn line(text: &str) -> Self {
        let mut words = text.split_whitespace().map(str::to_owned);
        Self::Line(words.next().unwrap_or_default(), words.collect())
    }

    /// Whether this is what the file says.
    pub fn is_met_by(&self, is: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Exactly(value) => is == value,
            Self::Numbers(list) => numbers(list) == numbers(is),
            Self::Line(key, words) => {
                line_of(is, key).is_some_and(|is| words.iter().all(|w| is.contains(&w.as_str())))
            }
            Self::Lifted(key, word) => {
                line_of(is, key).is_none_or(|words| words.contains(&word.as_str()))
            }
        }
    }
}

/// The words after the key, of the line that begins with it.
fn line_of<'a>(text: &'a str, key: &str) -> Option<Vec<&'a str>> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == key).then(|| words.collect())
    })
}

/// The numbers of a list like `0-3,8`.
pub(crate) fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
        // More than any kernel has: a range of all numbers would fill the memory.
        if from > to || to > 1 << 20 {
            return None;
        }
        found.extend(from..=to);
    }
    Some(found)
}

pub(super) fn or_max(bound: Bound) -> String {
    match bound {
        Bound::Unlimited => "max".to_owned(),
        Bound::At(n) => n.to_string(),
    }
}

pub(super) fn or_minus_one(bound: Bound) -> String {
    match bound {
        Bound::Unlimited => "-1".to_owned(),
        Bound::At(n) => n.to_string(),
    }
}
