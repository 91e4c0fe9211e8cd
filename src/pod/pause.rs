//! The pause process: holds the pod's namespaces and reaps.
