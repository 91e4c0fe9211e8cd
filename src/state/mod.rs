//! What is kept of a container between two calls of runp.

use std::fmt;

/// A container's id: `[A-Za-z0-9_+.-]{1,1024}`, neither `.` nor `..`, as in runc.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
