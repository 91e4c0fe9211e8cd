//! Warnings about manifests that are valid and still wrong.
