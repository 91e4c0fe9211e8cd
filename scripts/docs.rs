//! Writes man pages and shell completions from the definitions of the command line: `scripts/docs DIR`. An example and no
//! verb of runp's, so that nobody carries them in the binary.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap_complete::Shell;

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| Path::new("target/share").into());
    let (man, completions) = (dir.join("man/man1"), dir.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(runp::cli::command(), &man)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut runp::cli::command(), "runp", &completions)?;
    }
    println!("{}", dir.display());
    Ok(())
}
