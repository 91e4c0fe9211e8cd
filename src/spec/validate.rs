//! The checks of a configuration: all errors at once, before anything exists.
