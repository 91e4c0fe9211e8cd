//! The pod's sandbox: pause, its cgroup, its namespaces.
