//! How the two binaries are linked.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    // Where it begins: see src/sys/start.rs.
    link(&["runp"], "-e,runp_start");
    link(&["containerd-shim-runp-v2"], "-e,runp_shim_start");
    // Functions that are the same are there once, and what unwinds is not. LLD, which is the linker of this target (Rust 1.90),
    // can do that.
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        let both = ["runp", "containerd-shim-runp-v2"];
        link(&both, "-O2,--icf=all,--no-eh-frame-hdr,-T,src/unwind.ld");
        println!("cargo:rerun-if-changed=src/unwind.ld");
    }
}

fn link(binaries: &[&str], arguments: &str) {
    for binary in binaries {
        println!("cargo:rustc-link-arg-bin={binary}=-Wl,{arguments}");
    }
}
