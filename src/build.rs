//! Tells the linker where the `runp` binary begins: see `src/sys/start.rs`.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rustc-link-arg-bin=runp=-Wl,-e,runp_start");
}
