//! Where a container's root file system comes from.
