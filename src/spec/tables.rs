//! Names of capabilities, signals, rlimits and namespaces.
