//! The `runp` binary: everything is in the library.
#![no_main]

runp::entry!(runp::cli::main);
