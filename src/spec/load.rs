//! Reads config.json; every error has its JSON path.
