//! Compiles the C++ code against the headers of the libtorch that torch-sys links.

use std::path::{Path, PathBuf};

fn main() {
    for variable in ["LIBTORCH", "GLOO_INCLUDE", "GLM_WITHOUT_GLOO", "GLM_SANITIZE"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    for file in ["csrc", "build.rs"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        panic!("LIBTORCH is not set: run scripts/setup, then build in the repository, where .cargo/config.toml sets it");
    };
    let include = libtorch.join("include");
    let header = include.join("torch/csrc/autograd/function.h");
    assert!(header.is_file(), "{} is missing: LIBTORCH must be the `torch` folder of the wheel torch 2.11.0", header.display());

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        // Required to use libtorch's thread pool. `link` selects the same OpenMP runtime.
        .flag("-fopenmp")
        // Suppresses warnings from libtorch's headers.
        .flag("-w")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .define("USE_DISTRIBUTED", None);
    // Set by scripts/valgrind.
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
    build.file(together(&["autograd", "operators", "device", "store", "group", "slices", "reducer", "gather", "memory"]));
    build.compile("torch_ext");

    link(&libtorch.join("lib"));
}

/// Writes a file that includes sources of csrc: reading libtorch's headers takes most of the time that one of them takes to compile.
fn together(names: &[&str]) -> PathBuf {
    let folder = std::env::current_dir().expect("the folder of the package").join("csrc");
    let lines = names.iter().map(|name| format!("#include \"{}\"\n", folder.join(name).with_extension("cpp").display()));
    let path = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("torch_ext.cpp");
    let written = std::fs::write(&path, lines.collect::<String>());
    assert!(written.is_ok(), "writing {}: {written:?}", path.display());
    path
}

/// Compiles csrc/gloo.cpp. The error is the text of `distributed::Unavailable`: why gloo.cpp cannot be compiled, and a remedy.
///
/// libtorch's `ProcessGroupGloo.hpp` includes headers of gloo that are not part of the wheel; csrc/gloo-declarations replaces
/// them.
fn gloo(build: &cc::Build, include: &Path) -> Result<Vec<PathBuf>, String> {
    const HEADER: &str = "torch/csrc/distributed/c10d/ProcessGroupGloo.hpp";
    const OTHER: &str = "use the libtorch downloaded by scripts/setup";

    if std::env::var_os("GLM_WITHOUT_GLOO").is_some_and(|value| !value.is_empty() && value != "0") {
        return Err("GLM_WITHOUT_GLOO was set when it was built: unset it and rebuild".into());
    }
    let custom = std::env::var_os("GLOO_INCLUDE").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    if let Some(folder) = &custom {
        let header = folder.join("gloo/rendezvous/store.h");
        assert!(
            header.is_file(),
            "GLOO_INCLUDE: {} is missing. Set it to the folder that contains gloo's headers in a subfolder `gloo`, or unset it",
            header.display()
        );
        println!("cargo:rerun-if-changed={}", header.display());
    }
    if !include.join(HEADER).is_file() {
        return Err(format!("the libtorch it was built with, in {}, has no {HEADER}: {OTHER} and rebuild", include.display()));
    }
    // Searched after libtorch's own headers, in case a later wheel includes gloo's, and before the system's.
    let headers = custom.as_deref().unwrap_or(Path::new("csrc/gloo-declarations"));
    let mut build = build.clone();
    build.define("USE_C10D_GLOO", None).include(headers).file("csrc/gloo.cpp");
    build.try_compile_intermediates().map_err(|_| {
        println!("cargo:warning=csrc/gloo.cpp does not compile: building without support for several processes");
        let (headers, remedy) = match &custom {
            Some(folder) => (format!("the headers of gloo in {}", folder.display()), format!("unset GLOO_INCLUDE, or {OTHER}")),
            None => (
                "the declarations of gloo in libtorch-ext".to_owned(),
                format!("{OTHER}, or set GLOO_INCLUDE to a folder with the headers of its gloo"),
            ),
        };
        let include = include.display();
        format!(
            "{HEADER} of the libtorch it was built with, in {include}, does not compile with {headers}: {remedy}, and rebuild"
        )
    })
}

/// Compiles csrc/nccl.cpp to a shared object, which src/distributed/nccl.rs embeds.
fn nccl(build: &cc::Build, libtorch: &Path) {
    // Installed next to torch by separate wheels.
    let nvidia = libtorch.parent().unwrap_or(libtorch).join("nvidia");
    let folders = ["cu13/include", "nccl/include"].map(|folder| nvidia.join(folder));
    // One header from each required wheel.
    let [cuda, nccl] = [
        ["cuda_runtime.h", "crt/host_config.h", "nv/target", "cublas_v2.h", "cusparse.h", "cusolverDn.h"].as_slice(),
        &["nccl.h"],
    ];
    for (folder, headers) in folders.iter().zip([cuda, nccl]) {
        for header in headers.iter().map(|header| folder.join(header)) {
            assert!(
                header.is_file(),
                "{} is missing, but the feature `cuda` needs it: run scripts/setup --cuda",
                header.display()
            );
        }
    }

    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("libtorch_ext_nccl.so");
    let mut build = build.clone();
    build.define("USE_C10D_NCCL", None).includes(folders);
    let mut compiler = build.get_compiler().to_command();
    // `-z defs` reports symbols that are not in libtorch at link time.
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
    // The copy in the wheel: a second copy of the runtime would be a second thread pool.
    println!("cargo:rustc-link-lib=dylib:+verbatim=libgomp.so.1");
    // For this crate's tests.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
