//! Compiles the C++ side against the headers of the libtorch that torch-sys links.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    for file in ["csrc", "build.rs"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        panic!("LIBTORCH is not set: run scripts/setup, which .cargo/config.toml points to");
    };
    let include = libtorch.join("include");
    let header = include.join("torch/csrc/autograd/function.h");
    assert!(
        header.is_file(),
        "{} is missing: LIBTORCH has to be the `torch` folder of the wheel torch 2.11.0",
        header.display()
    );

    let sources = ["csrc/autograd.cpp", "csrc/operators.cpp", "csrc/device.cpp"];
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files(sources)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        // The same OpenMP runtime as libtorch's, see below; without this flag its thread pool would be out of reach.
        .flag("-fopenmp")
        // The headers are not ours to mend.
        .flag("-w")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .compile("torch_ext");

    link(&libtorch.join("lib"));
}

fn link(lib: &Path) {
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=dylib=torch_cpu");
    println!("cargo:rustc-link-lib=dylib=c10");
    // The wheel brings its own copy, under the usual name: two copies would be two thread pools.
    println!("cargo:rustc-link-lib=dylib:+verbatim=libgomp.so.1");
    // For this crate's own tests.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
