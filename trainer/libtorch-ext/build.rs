//! Compiles the C++ side against the headers of the libtorch that torch-sys links.

use std::path::{Path, PathBuf};

fn main() {
    for variable in ["LIBTORCH", "GLOO_INCLUDE", "GLM_WITHOUT_GLOO", "GLM_SANITIZE"] {
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

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        // The same OpenMP runtime as libtorch's, see below; without this flag its thread pool would be out of reach.
        .flag("-fopenmp")
        // The headers are not ours to mend.
        .flag("-w")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .define("USE_DISTRIBUTED", None);
    // For scripts/valgrind.
    if std::env::var_os("GLM_SANITIZE").is_some_and(|value| value == "address") {
        build.flag("-fsanitize=address").flag("-fno-omit-frame-pointer");
        println!("cargo:rustc-link-lib=dylib=asan");
    }
    match gloo(&build, &include) {
        Ok(objects) => drop(build.define("EXT_WITH_GLOO", None).objects(objects)),
        Err(reason) => println!("cargo:rustc-env=LIBTORCH_EXT_NO_GLOO={reason}"),
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        nccl(&build, &libtorch);
    }
    let sources = ["csrc/autograd.cpp", "csrc/operators.cpp", "csrc/device.cpp", "csrc/store.cpp", "csrc/distributed.cpp"];
    build.files(sources).compile("torch_ext");

    link(&libtorch.join("lib"));
}

/// Compiles csrc/gloo.cpp, or tells what keeps it from being compiled and what to do about it: the text of
/// `distributed::Unavailable`.
///
/// libtorch's header of Gloo includes headers of gloo that the wheel lacks: csrc/gloo-declarations stands in for them.
fn gloo(build: &cc::Build, include: &Path) -> Result<Vec<PathBuf>, String> {
    const HEADER: &str = "torch/csrc/distributed/c10d/ProcessGroupGloo.hpp";
    const OTHER: &str = "use the libtorch that scripts/setup fetches";

    if std::env::var_os("GLM_WITHOUT_GLOO").is_some_and(|value| !value.is_empty() && value != "0") {
        return Err("GLM_WITHOUT_GLOO was set when it was built: unset it and build again".into());
    }
    let told = std::env::var_os("GLOO_INCLUDE").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    if let Some(folder) = &told {
        let header = folder.join("gloo/rendezvous/store.h");
        assert!(
            header.is_file(),
            "GLOO_INCLUDE: {} is missing. Name the folder that has gloo's headers in its folder `gloo`, or unset it to do \
             without them",
            header.display()
        );
        println!("cargo:rerun-if-changed={}", header.display());
    }
    if !include.join(HEADER).is_file() {
        return Err(format!(
            "the libtorch it was built with, in {}, has no {HEADER}: {OTHER} and build again",
            include.display()
        ));
    }
    // Behind libtorch's, should a wheel have them one day, and before the system's.
    let headers = told.as_deref().unwrap_or(Path::new("csrc/gloo-declarations"));
    let mut build = build.clone();
    build.define("USE_C10D_GLOO", None).include(headers).file("csrc/gloo.cpp");
    build.try_compile_intermediates().map_err(|_| {
        println!("cargo:warning=csrc/gloo.cpp does not compile: building for a single process");
        let (headers, remedy) = match &told {
            Some(folder) => (format!("the headers of gloo in {}", folder.display()), format!("unset GLOO_INCLUDE, or {OTHER}")),
            None => (
                "the declarations of gloo that come with libtorch-ext".to_owned(),
                format!("{OTHER}, or set GLOO_INCLUDE to a folder with the headers of its gloo"),
            ),
        };
        let include = include.display();
        format!("{HEADER} of the libtorch it was built with, in {include}, does not compile with {headers}: {remedy}, and build again")
    })
}

/// Makes a shared object of csrc/nccl.cpp, which src/distributed/nccl.rs embeds.
fn nccl(build: &cc::Build, libtorch: &Path) {
    // Beside the wheel of torch, from wheels of their own.
    let nvidia = libtorch.parent().unwrap_or(libtorch).join("nvidia");
    let folders = ["cu13/include", "nccl/include"].map(|folder| nvidia.join(folder));
    // One of every wheel that has to be there.
    let [cuda, nccl] = [
        ["cuda_runtime.h", "crt/host_config.h", "nv/target", "cublas_v2.h", "cusparse.h", "cusolverDn.h"].as_slice(),
        &["nccl.h"],
    ];
    for (folder, headers) in folders.iter().zip([cuda, nccl]) {
        for header in headers.iter().map(|header| folder.join(header)) {
            assert!(
                header.is_file(),
                "{} is missing, which the feature `cuda` needs: run scripts/setup --cuda",
                header.display()
            );
        }
    }

    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("libtorch_ext_nccl.so");
    let mut build = build.clone();
    build.define("USE_C10D_NCCL", None).includes(folders);
    let mut compiler = build.get_compiler().to_command();
    // Everything that it uses is in libtorch, or the linker says so.
    compiler.args(["-shared", "-s", "-Wl,-z,defs", "-Wl,--as-needed", "csrc/nccl.cpp", "-o"]).arg(&out);
    compiler.arg("-L").arg(libtorch.join("lib")).args(["-ltorch_cuda", "-lc10_cuda", "-ltorch_cpu", "-lc10"]);
    let status = compiler.status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "compiling csrc/nccl.cpp: {status:?}");
    println!("cargo:rustc-env=LIBTORCH_EXT_NCCL={}", out.display());
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
