//! `cargo +nightly fuzz run pairs` in `pipeline/`: pairs in all formats (own, lines of two files, CNN/DailyMail, XSum, SQuAD), and their encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks.rs"]
#[expect(dead_code, reason = "each target has a check")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::pairs(bytes));
