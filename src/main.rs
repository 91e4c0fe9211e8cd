//! The `runp` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    runp::cli::main()
}
