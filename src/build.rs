//! How the `runp` binary is linked.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    // Where it begins: see src/sys/start.rs.
    link("-e,runp_start");
    // Functions that are the same are there once, and nothing unwinds. LLD, which is the linker of this target (Rust 1.90), can
    // do that.
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        link("-O2,--icf=all,--no-eh-frame-hdr");
    }
}

fn link(arguments: &str) {
    println!("cargo:rustc-link-arg-bin=runp=-Wl,{arguments}");
}
