//! Fused kernels for the operations between GLM's matrix products, for CPUs and, in [`cuda`], for GPUs.
//!
//! Every CPU function runs on one thread and operates on slices; callers split the work. Each kernel is compiled for AVX-512,
//! AVX2 and the target's baseline (see [`simd`]). Elements are stored in 16, 32 or 64 bits (see [`number`]). Arithmetic is
//! 32-bit for the first two and 64-bit for the last, so tests in double precision exercise the code used in training.
//!
//! - [`gelu`]: bias and GELU.
//! - [`residual`]: bias, dropout, residual sum and LayerNorm in one pass.
//! - [`attention`]: softmax and dropout with GLM's attention mask.
//! - [`scores`]: log softmax at the target positions only.
//! - [`embedding`]: sum of three embedding tables, and their gradients.
//! - [`dropout`]: dropout derived from a key instead of a stored mask.
//! - [`few_rows`]: matrix products with few rows, in generation.
//! - [`cached`]: attention to stored keys and values, in generation.
//! - [`accumulate`]: accumulation of gradients in 32 bits.
//! - [`cuda`]: the same operations on a GPU, and AdamW: Triton kernels, compiled ahead of time and embedded.
//!
//! Activations pass through memory once between two matrix products of a block:
//!
//! ```text
//! queries, keys, values -> attention -> product -> residual -> product -> gelu -> product -> residual -> next block
//! ```
//!
//! ```
//! // Two rows of two elements, and a bias per column.
//! let (x, bias) = ([0.0_f32, 1.0, -1.0, 2.0], [0.0, 1.0]);
//! let mut out = [0.0; 4];
//! glm_kernels::gelu::forward(&x, &bias, &mut out);
//! assert_eq!(out[0], 0.0);
//! assert!((out[1] - 1.954_597_7).abs() < 1e-5, "GELU of 1 + 1");
//! ```

pub mod accumulate;
pub mod attention;
pub mod cached;
pub mod cuda;
pub mod dropout;
pub mod embedding;
pub mod few_rows;
pub mod gelu;
pub mod number;
pub mod residual;
pub mod scores;
pub mod simd;
