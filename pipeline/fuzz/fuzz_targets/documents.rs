//! `cargo +nightly fuzz run documents` in `pipeline/`: documents in all formats.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks.rs"]
#[expect(dead_code, reason = "each target has a check")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::documents(bytes));
