//! The `containerd-shim-runp-v2` binary: everything is in the library.
#![no_main]

runp::start!(runp_shim_start, runp::shim::before_main);
runp::entry!(runp::shim::main);
