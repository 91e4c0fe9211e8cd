//! config.json, made into a plan. Pure: nothing here touches the machine, except [`load`] which reads the file.

mod devices;
mod features;
mod field;
pub mod load;
pub mod mount_options;
mod mounts;
mod namespaces;
pub mod plan;
mod process;
#[cfg(test)]
mod properties;
mod sysctl;
pub mod tables;
pub mod template;
#[cfg(test)]
mod testing;
mod unsupported;
pub mod validate;

pub use features::features;
pub use mounts::over_proc;
pub use process::plan_process;
pub use validate::{VERSION, plan};
