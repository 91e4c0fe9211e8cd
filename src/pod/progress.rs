//! Live progress of `pod run`.
