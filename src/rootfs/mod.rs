//! The container's file system.
