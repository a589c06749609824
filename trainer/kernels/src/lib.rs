//! The passes over memory between GLM's matrix products, fused, for CPUs.
//!
//! Every function works on slices, on one thread, and is compiled for AVX-512, AVX2 and whatever the target has at least
//! (see [`simd`]); callers cut the work into parts. Storage may be 16, 32 or 64 bits (see [`number`]), arithmetic is 32 bits
//! for the first two and 64 for the last, so that double precision checks the very code that trains.
//!
//! - [`gelu`]: bias and GELU.
//! - [`residual`]: bias, dropout, residual sum and LayerNorm in one pass.
//! - [`attention`]: softmax and dropout under GLM's visibility.
//! - [`scores`]: log softmax at the targets only.
//! - [`embedding`]: three tables summed, and their gradients.
//! - [`dropout`]: which element is dropped is a function of a key, so no mask is stored.
//! - [`accumulate`]: gradients summed up in 32 bits.
//!
//! Between two matrix products of a block the activations go through memory once:
//!
//! ```text
//! queries, keys, values -> attention -> product -> residual -> product -> gelu -> product -> residual -> next block
//! ```
//!
//! ```
//! // Two rows of two numbers, and a bias for each column.
//! let (x, bias) = ([0.0_f32, 1.0, -1.0, 2.0], [0.0, 1.0]);
//! let mut out = [0.0; 4];
//! glm_kernels::gelu::forward(&x, &bias, &mut out);
//! assert_eq!(out[0], 0.0);
//! assert!((out[1] - 1.954_597_7).abs() < 1e-5, "GELU of 1 + 1");
//! ```

pub mod accumulate;
pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod number;
pub mod residual;
pub mod scores;
pub mod simd;
