//! The event loop that carries the lifecycle's actions out.
