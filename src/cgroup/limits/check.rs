//! What all fields of `linux.resources` are checked by.

use std::fmt::Display;

use super::Bound;
use crate::error::Error;

/// Collects errors, each with its JSON path, value and reason.
pub(super) struct Check<'a> {
    pub(super) prefix: &'a str,
    pub(super) errors: &'a mut Vec<Error>,
}

impl Check<'_> {
    pub(super) fn refuse(
        &mut self,
        field: impl Display,
        value: impl Display,
        why: &str,
        hint: &str,
    ) {
        self.errors
            .push(Error::new(format!("{}.{field}: {value}: {why}", self.prefix)).hint(hint));
    }

    /// A number in a range; 0 means that nothing was asked for, as in runc.
    pub(super) fn range(
        &mut self,
        field: &str,
        value: Option<u64>,
        min: u64,
        max: u64,
    ) -> Option<u64> {
        let value = value.filter(|v| *v != 0)?;
        if (min..=max).contains(&value) {
            return Some(value);
        }
        let hint = format!("a number from {min} to {max}, or leave it out");
        self.refuse(field, value, "out of range", &hint);
        None
    }

    /// Negative is unlimited (-1, the only one allowed); 0 means that nothing was asked for, as in runc.
    pub(super) fn bound(&mut self, field: &str, value: Option<i64>, min: u64) -> Option<Bound> {
        match value? {
            0 => None,
            -1 => Some(Bound::Unlimited),
            v if v > 0 && v.cast_unsigned() >= min => Some(Bound::At(v.cast_unsigned())),
            v => {
                let hint = format!("at least {min}, or -1 for no limit");
                self.refuse(field, v, "out of range", &hint);
                None
            }
        }
    }

    pub(super) fn device(&mut self, field: &str, major: i64, minor: i64) -> Option<String> {
        if let (Ok(major), Ok(minor)) = (u32::try_from(major), u32::try_from(minor)) {
            return Some(format!("{major}:{minor}"));
        }
        let number = format!("{major}:{minor}");
        self.refuse(
            field,
            number,
            "not a device number",
            "`ls -l` shows major, minor",
        );
        None
    }
}

/// What can stand in a line of words of the kernel without becoming two of them.
pub(super) fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())
}
