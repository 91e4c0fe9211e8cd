//! Pods on disk: their directories, lock, records.
