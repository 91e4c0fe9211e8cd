//! runp: `runc` for pods. A guided tour of the code, from the top down; an arrow never points up.
//!
//! | floor | rooms | what happens there |
//! | --- | --- | --- |
//! | faces | [`cli`] [`shim`] | what people type, and what containerd asks for: parse, call, print |
//! | pod | [`pod`] | Kubernetes' pod: manifest, plan, lifecycle, supervisor, status |
//! | container | [`container`] | an OCI container: from plan to process, in the order in which it happens |
//! | facilities | [`spec`] [`rootfs`] [`security`] [`cgroup`] [`state`] | one concern each; `spec` is pure |
//! | kernel | [`sys`] | safe wrappers over one kernel facility each; all `unsafe` is there |
//!
//! Everything is planned first, by pure functions, and then done by short straight code.

pub mod cgroup;
pub mod cli;
pub mod container;
pub mod error;
pub mod pod;
pub mod rootfs;
pub mod security;
pub mod shim;
pub mod spec;
pub mod state;
#[allow(unsafe_code)]
pub mod sys;
