//! With the feature `cuda`: compiles the Triton kernels of the folder `cuda` for all GPU architectures and generates the Rust code
//! that embeds them.

#[cfg(feature = "cuda")]
#[path = "build/cuda.rs"]
mod cuda;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(message) = cuda::embed() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}
