//! A place in the configuration, and what is wrong with it. All errors are collected, none stops the search.

use std::ffi::{CString, OsStr};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// A field of the configuration: its JSON path, and where its errors go.
///
/// A refused value is still returned, somehow: nobody uses it, because a plan with errors is not given out.
pub(crate) struct Field<'e> {
    path: String,
    errors: &'e mut Vec<Error>,
}

impl<'e> Field<'e> {
    pub(crate) fn new(path: impl Into<String>, errors: &'e mut Vec<Error>) -> Self {
        Self {
            path: path.into(),
            errors,
        }
    }

    fn child(&mut self, path: String) -> Field<'_> {
        Field::new(path, self.errors)
    }

    /// `self.name`
    pub(crate) fn at(&mut self, name: &str) -> Field<'_> {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.child(format!("{}{dot}{name}", self.path))
    }

    /// `self[index]`
    pub(crate) fn item(&mut self, index: usize) -> Field<'_> {
        self.child(format!("{}[{index}]", self.path))
    }

    /// `self["key"]`
    pub(crate) fn key(&mut self, key: &str) -> Field<'_> {
        self.child(format!("{}[{key:?}]", self.path))
    }

    pub(crate) fn refuse(&mut self, reason: impl Display) {
        self.errors
            .push(Error::new(format!("{}: {reason}", self.path)));
    }

    pub(crate) fn refuse_and_hint(&mut self, reason: impl Display, hint: impl Into<String>) {
        self.errors
            .push(Error::new(format!("{}: {reason}", self.path)).hint(hint));
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
