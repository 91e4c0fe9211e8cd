//! What a cgroup uses, as containerd/cgroups defines it for v1 and for v2.

pub(in crate::shim) mod v1;
pub(in crate::shim) mod v2;
