//! config.json, made into a plan. Pure: nothing here touches the machine, except [`load`] which reads the file.

mod devices;
mod execution;
mod features;
mod field;
mod hooks;
pub mod load;
mod mount_label;
pub mod mount_options;
mod mounts;
#[cfg(test)]
pub(crate) mod mutation;
mod namespaces;
mod net_devices;
pub mod plan;
mod process;
#[cfg(test)]
mod properties;
mod scheduling;
#[cfg(test)]
mod schema;
pub mod seccomp;
#[cfg(test)]
pub(crate) mod sound;
mod sysctl;
pub mod tables;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;
mod unsupported;
pub mod validate;

pub use features::features;
pub(crate) use field::Field;
pub use hooks::{plan_recorded_hooks, recorded_hooks};
pub use mounts::over_proc;
pub use namespaces::KINDS as NAMESPACES;
pub use process::plan_process;
pub(crate) use sysctl::{plan_sysctl, sysctl_of};
pub use validate::{VERSION, plan};
