//! Sets the paths on which the program finds libtorch, so that no environment variable is needed to run it: that of an installation,
//! relative to the program, then the libtorch that torch-sys links. `scripts/install` removes the second.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    let Some(libtorch) = std::env::var_os("LIBTORCH") else {
        println!("cargo:warning=LIBTORCH is not set; run scripts/setup, then build in the repository");
        return;
    };
    let lib = std::path::Path::new(&libtorch).join("lib");
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib/glm/torch/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
