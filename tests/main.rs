//! What runp does as root on a real kernel: one binary, a module per subject.
//!
//! `RUNP_TEST_RUNTIME=runc` runs the container tests with another runtime, which proves the tests themselves.
//! `RUNP_TEST_STRICT=1` (or `CI`) turns a skipped test into a failure.

#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is the report

mod callers;
mod container;
mod faults;
mod pod;
mod shim;
mod support;
