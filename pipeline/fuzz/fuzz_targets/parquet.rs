//! `cargo +nightly fuzz run parquet` in `pipeline/`: files that should be Parquet with a column of text.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../parquet.rs"]
mod parquet;

fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("glm-prep-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    parquet::documents(&folder, bytes);
});
