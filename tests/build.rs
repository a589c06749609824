//! Tests that compare with golden outputs link the trainer's library, so they need the rpath of libtorch like its binary.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(libtorch) = std::env::var_os("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", std::path::Path::new(&libtorch).join("lib").display());
    }
}
