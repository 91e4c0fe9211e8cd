//! The `runp` binary: everything is in the library.
#![no_main]

runp::start!(runp_start, runp::cli::before_main);
runp::entry!(runp::cli::main);
