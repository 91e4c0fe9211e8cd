//! Volumes: made before the sandbox, removed with the pod.
