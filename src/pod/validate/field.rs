//! Kubernetes' field errors (`k8s.io/apimachinery/pkg/util/validation/field`): a path, what is wrong, why.

use std::fmt::{self, Display};

/// `spec.containers[0].name`.
#[derive(Debug, Clone)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as Go prints it: strings in quotes, numbers and booleans bare.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        self.as_str().shown()
    }
}

macro_rules! shown_bare {
    ($($number:ty),*) => {$(
        impl Shown for $number {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
shown_bare!(i32, i64, bool, serde_json::Value);

/// All that is wrong, each as Kubernetes says it.
#[derive(Debug, Default)]
pub(super) struct Errors(pub(super) Vec<String>);

impl Errors {
    fn add(&mut self, path: &Path, what: impl Display) {
        self.0.push(format!("{path}: {what}"));
    }

    pub(super) fn required(&mut self, path: &Path, why: &str) {
        match why {
            "" => self.add(path, "Required value"),
            _ => self.add(path, format_args!("Required value: {why}")),
        }
    }

    pub(super) fn invalid(
        &mut self,
        path: &Path,
        value: &(impl Shown + ?Sized),
        why: impl Display,
    ) {
        self.add(
            path,
            format_args!("Invalid value: {}: {why}", value.shown()),
        );
    }

    pub(super) fn duplicate(&mut self, path: &Path, value: &str) {
        self.add(path, format_args!("Duplicate value: {}", value.shown()));
    }

    pub(super) fn not_found(&mut self, path: &Path, value: &str) {
        self.add(path, format_args!("Not found: {}", value.shown()));
    }

    pub(super) fn too_many(&mut self, path: &Path, actual: usize, most: usize) {
        self.add(
            path,
            format_args!("Too many: {actual}: must have at most {most} items"),
        );
    }

    pub(super) fn forbidden(&mut self, path: &Path, why: &str) {
        self.add(path, format_args!("Forbidden: {why}"));
    }

    pub(super) fn unsupported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| value.shown()).collect();
        self.add(
            path,
            format_args!(
                "Unsupported value: {}: supported values: {}",
                value.shown(),
                supported.join(", ")
            ),
        );
    }

    /// One of a fixed set of words.
    pub(super) fn one_of(&mut self, path: &Path, value: Option<&str>, supported: &[&str]) {
        match value {
            Some(value) if !supported.contains(&value) => self.unsupported(path, value, supported),
            _ => {}
        }
    }

    /// A number that must lie in a range, both ends included.
    pub(super) fn within(&mut self, path: &Path, value: i64, range: std::ops::RangeInclusive<i64>) {
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            self.invalid(
                path,
                &value,
                format_args!("must be between {low} and {high}, inclusive"),
            );
        }
    }

    /// A value that may break several rules at once.
    pub(super) fn each(&mut self, path: &Path, value: &str, whys: Vec<String>) {
        for why in whys {
            self.invalid(path, value, why);
        }
    }
}
