//! Pods. Tests named `row_NN_...` show one behaviour each that Kubernetes promises of pods, init containers and pause.

mod bench;
mod beside;
mod beyond;
mod bundles;
mod environment;
mod export;
mod failures;
mod faults;
mod hooks;
mod host;
mod input;
mod isolation;
mod order;
mod pause;
mod policies;
mod probes;
mod rows;
mod semantics;
mod sidecars;
mod status;
mod stop;
mod survival;
mod timeline;
mod tools;
mod users;
mod volumes;
