//! Compiles the C++ side against the headers of the libtorch that torch-sys links.

use std::path::{Path, PathBuf};

fn main() {
    for variable in ["LIBTORCH", "GLOO_INCLUDE", "GLM_WITHOUT_GLOO"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
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

    let sources = ["csrc/autograd.cpp", "csrc/operators.cpp", "csrc/device.cpp", "csrc/store.cpp", "csrc/distributed.cpp"];
    let mut build = cc::Build::new();
    // Behind `include`, where headers of the same name would be libtorch's.
    if let Some(folder) = gloo() {
        build.define("USE_C10D_GLOO", None).flag(format!("-idirafter{}", folder.display()));
    }
    build
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
        .define("USE_DISTRIBUTED", None)
        .compile("torch_ext");

    link(&libtorch.join("lib"));
}

/// Where gloo's headers are, which libtorch's of ProcessGroupGloo include and the wheel lacks; the library itself is in
/// libtorch. Without them there is one process only, and `distributed::available` tells why.
fn gloo() -> Option<PathBuf> {
    if std::env::var_os("GLM_WITHOUT_GLOO").is_some_and(|value| value != "0") {
        return None;
    }
    let told = std::env::var_os("GLOO_INCLUDE").map(PathBuf::from);
    let folder = told.clone().unwrap_or_else(|| "/usr/include".into());
    let header = folder.join("gloo/rendezvous/store.h");
    if header.is_file() {
        println!("cargo:rerun-if-changed={}", header.display());
        return Some(folder);
    }
    // Only where somebody meant to have it; a build for one process is nothing to warn of.
    if told.is_some() {
        println!("cargo:warning=GLOO_INCLUDE has no gloo/rendezvous/store.h: building for one process");
    }
    None
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
