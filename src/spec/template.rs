//! The config.json that `runp spec` writes.
