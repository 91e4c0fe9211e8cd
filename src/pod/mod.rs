//! Kubernetes' pod on one machine: manifest, plan, lifecycle, supervisor, status.

pub mod calls;
pub mod container;
pub mod control;
pub mod data;
pub mod delete;
pub mod detach;
pub mod images;
pub mod journal;
pub mod lifecycle;
pub mod lint;
pub mod logs;
pub mod manifest;
pub mod observe;
pub mod pause;
pub mod plan;
pub mod progress;
pub mod quantity;
pub mod sandbox;
pub mod status;
pub mod store;
pub mod supervisor;
pub mod termination;
pub mod timeline;
pub mod tree;
pub mod validate;
pub mod volumes;
