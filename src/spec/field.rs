//! A place in the configuration, and what is wrong with it. All errors are collected, none stops the search.

use std::ffi::{CString, OsStr};
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// A field of the configuration: its JSON path, and where its errors go.
///
/// A refused value is still returned, somehow: nobody uses it, because a plan with errors is not given out.
pub(crate) struct Field<'a> {
    place: Place<'a>,
    errors: &'a mut Vec<Error>,
}

/// The path of a field. It is only written out if something is wrong there.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Name(name) if self.is_first() => f.write_str(name),
            Step::Name(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key:?}]"),
        }
    }
}

impl Place<'_> {
    /// Whether nothing is written before it: the root of the configuration has no name.
    fn is_first(&self) -> bool {
        self.parent
            .is_none_or(|parent| parent.parent.is_none() && matches!(parent.step, Step::Name("")))
    }
}

impl<'a> Field<'a> {
    pub(crate) fn new(path: &'a str, errors: &'a mut Vec<Error>) -> Self {
        Self {
            place: Place {
                parent: None,
                step: Step::Name(path),
            },
            errors,
        }
    }

    fn child<'b>(&'b mut self, step: Step<'b>) -> Field<'b> {
        Field {
            place: Place {
                parent: Some(&self.place),
                step,
            },
            errors: self.errors,
        }
    }

    /// `self.name`
    pub(crate) fn at<'b>(&'b mut self, name: &'b str) -> Field<'b> {
        self.child(Step::Name(name))
    }

    /// `self[index]`
    pub(crate) fn item(&mut self, index: usize) -> Field<'_> {
        self.child(Step::Index(index))
    }

    /// `self["key"]`
    pub(crate) fn key<'b>(&'b mut self, key: &'b str) -> Field<'b> {
        self.child(Step::Key(key))
    }

    pub(crate) fn refuse(&mut self, reason: impl Display) {
        self.errors
            .push(Error::new(format!("{}: {reason}", self.place)));
    }

    pub(crate) fn refuse_and_hint(&mut self, reason: impl Display, hint: impl Into<String>) {
        self.errors
            .push(Error::new(format!("{}: {reason}", self.place)).hint(hint));
    }

    /// The value for the kernel, whose strings end at the first NUL.
    pub(crate) fn c_string(&mut self, value: impl AsRef<OsStr>) -> CString {
        let value = value.as_ref();
        CString::new(value.as_bytes()).unwrap_or_else(|_| {
            self.refuse(format_args!("{value:?} contains a NUL byte"));
            CString::default()
        })
    }

    /// An absolute path without `.`, `..` and doubled slashes.
    pub(crate) fn absolute(&mut self, path: &Path) -> PathBuf {
        self.c_string(path);
        if !path.is_absolute() {
            self.refuse(format_args!("{path:?} is not an absolute path"));
        }
        clean(path)
    }

    /// A user or group id; the kernel takes 4294967295 as -1, "no change", so that whoever asks for it stays root.
    pub(crate) fn id(&mut self, id: u32) -> u32 {
        if id == u32::MAX {
            self.refuse_and_hint(
                format_args!("{id} is no id"),
                "it is -1 for the kernel, which means no change",
            );
        }
        id
    }
}

/// The path below `/` without `.`, `..` and doubled slashes; by its text, as no link is known here.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_field() {
        let mut errors = Vec::new();
        let mut root = Field::new("", &mut errors);
        root.at("mounts").item(3).at("options").refuse("no");
        root.at("linux").at("sysctl").key("a.b").refuse("no");
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            ["mounts[3].options: no", "linux.sysctl[\"a.b\"]: no"]
        );
    }

    #[test]
    fn clean_paths_stay_below_the_root() {
        for (path, cleaned) in [
            ("/a//b/./c", "/a/b/c"),
            ("a/../../b", "/b"),
            ("/../..", "/"),
            ("", "/"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(cleaned), "{path}");
        }
    }
}
