//! config.json, made into a plan. Pure: nothing here touches the machine, except [`load`] which reads the file.

pub mod load;
pub mod mount_options;
pub mod plan;
pub mod tables;
pub mod template;
pub mod validate;
