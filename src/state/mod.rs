//! What is kept of a container between two calls of runp: `<root>/<id>/`, by default below `/run/runp`.
//!
//! Nothing is synced to disk: after a reboot the state is worthless, and the boot id in it says so. What must survive
//! is the death of any process, at any moment.

mod identity;
mod record;
mod store;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use identity::{Identity, boot_id};
pub use record::{Record, Status};
pub use store::{Entry, Store};

/// A container's id: `[A-Za-z0-9_+.-]{1,1024}`, neither `.` nor `..`, as in runc.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        let reserved = [".", "..", store::PODS];
        if id.is_empty() || id.len() > 1024 || reserved.contains(&id) || !id.chars().all(legal) {
            return Err(Error::new(format!("invalid container id {id:?}")).hint(
                "1 to 1024 of the characters A-Z a-z 0-9 _ + - . and not \".\", \"..\" or \"pods\"",
            ));
        }
        Ok(Self(id.into()))
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        id.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_harmless_file_name() {
        for good in ["a", "A-b_c+d.e", "..."] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            "pods",
            "a/b",
            "a b",
            "a\n",
            "ä",
            &"x".repeat(1025),
        ] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
    }
}
