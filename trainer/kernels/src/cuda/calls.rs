//! Arguments of the kernels, by name and in order.
//!
//! `SIGNATURES` is compared with the compiled kernels when the program is built with the feature `cuda`.

/// Value of an argument; `P` is the type of pointers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<P> {
    /// Pointer to device memory.
    Pointer(P),
    /// 32-bit integer.
    I32(i32),
    /// 64-bit integer.
    I64(i64),
    /// 32-bit number.
    F32(f32),
}

/// Type of a field.
macro_rules! field {
    (ptr, $pointer:ident) => {
        $pointer
    };
    (i32, $pointer:ident) => {
        i32
    };
    (i64, $pointer:ident) => {
        i64
    };
    (f32, $pointer:ident) => {
        f32
    };
}

/// Value of a field.
macro_rules! value {
    (ptr, $value:expr) => {
        Value::Pointer($value)
    };
    (i32, $value:expr) => {
        Value::I32($value)
    };
    (i64, $value:expr) => {
        Value::I64($value)
    };
    (f32, $value:expr) => {
        Value::F32($value)
    };
}

/// Number of identifiers.
macro_rules! count {
    ($($name:ident)*) => { <[&str]>::len(&[$(stringify!($name)),*]) };
}

/// Declares the arguments of kernels.
macro_rules! kernels {
    ($($(#[$doc:meta])* $call:ident = $kernel:literal ($($argument:ident: $class:ident),* $(,)?);)*) => {
        $(
            $(#[$doc])*
            #[expect(missing_docs, reason = "the kernel's own documentation describes its arguments")]
            pub struct $call<P> {
                $(pub $argument: field!($class, P),)*
            }

            impl<P> Call<P, { count!($($argument)*) }> for $call<P> {
                const KERNEL: &'static str = $kernel;
                const ARGUMENTS: [&'static str; { count!($($argument)*) }] = [$(stringify!($argument)),*];

                fn values(self) -> [Value<P>; { count!($($argument)*) }] {
                    [$(value!($class, self.$argument)),*]
                }
            }
        )*

        /// Names of all kernels, each with the names and types of its arguments.
        pub const SIGNATURES: &[(&str, &[(&str, &str)])] = &[
            $(($kernel, &[$((stringify!($argument), stringify!($class))),*])),*
        ];
    };
}

/// Arguments of one kernel.
pub trait Call<P, const N: usize> {
    /// Name of the kernel.
    const KERNEL: &'static str;
    /// Names of the arguments.
    const ARGUMENTS: [&'static str; N];

    /// The arguments in order.
    fn values(self) -> [Value<P>; N];
}

kernels! {
    /// See `cuda/attention.py`.
    AttentionForward = "attention_forward" (
        q: ptr, k: ptr, v: ptr, out: ptr, lse: ptr, masks: ptr, rows: ptr, blocks: ptr, query_token: ptr, query_piece: ptr,
        query_key: ptr, q_stride: i32, kv_stride: i32, heads: i32, all_queries: i32, site: i64, limit: i32, keep_scale: f32,
        scale: f32,
    );
    /// See `cuda/attention.py`.
    AttentionBackwardQuery = "attention_backward_query" (
        q: ptr, k: ptr, v: ptr, out: ptr, d_out: ptr, lse: ptr, masks: ptr, delta: ptr, d_q: ptr, d_bias: ptr, rows: ptr,
        blocks: ptr, query_token: ptr, query_piece: ptr, q_stride: i32, kv_stride: i32, heads: i32, all_queries: i32,
        limit: i32, keep_scale: f32, scale: f32,
    );
    /// See `cuda/attention.py`.
    AttentionBackwardKey = "attention_backward_key" (
        q: ptr, k: ptr, v: ptr, d_out: ptr, lse: ptr, masks: ptr, delta: ptr, d_k: ptr, d_v: ptr, d_bias: ptr, rows: ptr,
        blocks: ptr, query_token: ptr, query_piece: ptr, q_stride: i32, kv_stride: i32, heads: i32, all_queries: i32,
        limit: i32, keep_scale: f32, scale: f32,
    );
    /// See `cuda/residual.py`.
    NormForward = "norm_forward" (
        x: ptr, weight: ptr, bias: ptr, out: ptr, mean: ptr, rstd: ptr, eps: f32, tokens: i32, width: i32,
    );
    /// See `cuda/residual.py`.
    NormBackward = "norm_backward" (
        d_out: ptr, x: ptr, weight: ptr, mean: ptr, rstd: ptr, d_x: ptr, partial: ptr, tokens: i32, width: i32,
        rows_per_program: i32,
    );
    /// See `cuda/residual.py`.
    ResidualForward = "residual_forward" (
        x: ptr, branch: ptr, branch_bias: ptr, weight: ptr, bias: ptr, sum: ptr, out: ptr, mean: ptr, rstd: ptr, key: ptr,
        site: i64, limit: i32, keep_scale: f32, eps: f32, tokens: i32, width: i32,
    );
    /// See `cuda/residual.py`.
    ResidualBackward = "residual_backward" (
        d_out: ptr, d_sum: ptr, sum: ptr, weight: ptr, mean: ptr, rstd: ptr, d_x: ptr, d_branch: ptr, partial: ptr, key: ptr,
        site: i64, limit: i32, keep_scale: f32, tokens: i32, width: i32, rows_per_program: i32,
    );
    /// See `cuda/gelu.py`.
    GeluForward = "gelu_forward" (x: ptr, bias: ptr, out: ptr, tokens: i32, width: i32);
    /// See `cuda/gelu.py`.
    GeluBackward = "gelu_backward" (
        x: ptr, bias: ptr, d_out: ptr, partial: ptr, tokens: i32, width: i32, rows_per_program: i32,
    );
    /// See `cuda/embedding.py`.
    EmbeddingForward = "embedding_forward" (
        words: ptr, positions: ptr, block_positions: ptr, word: ptr, position: ptr, block_position: ptr, out: ptr, key: ptr,
        site: i64, limit: i32, keep_scale: f32, tokens: i32, width: i32,
    );
    /// See `cuda/embedding.py`.
    EmbeddingChunks = "embedding_chunks" (
        d_out: ptr, token: ptr, chunks: ptr, partial: ptr, key: ptr, site: i64, limit: i32, keep_scale: f32, width: i32,
    );
    /// See `cuda/embedding.py`.
    EmbeddingRows = "embedding_rows" (partial: ptr, rows: ptr, gradient: ptr, width: i32);
    /// See `cuda/scores.py`.
    ScoresForward = "scores_forward" (logits: ptr, lse: ptr, words: i32);
    /// See `cuda/scores.py`.
    ScoresGroups = "scores_groups" (logits: ptr, lse: ptr, first: ptr, targets: ptr, out: ptr, words: i32);
    /// See `cuda/scores.py`.
    ScoresBackward = "scores_backward" (logits: ptr, lse: ptr, d_groups: ptr, first: ptr, targets: ptr, words: i32);
    /// See `cuda/reduce.py`.
    AddPartials = "add_partials" (
        partial: ptr, gradient0: ptr, gradient1: ptr, gradient2: ptr, programs: i32, width: i32,
    );
    /// See `cuda/adamw.py`.
    AdamW = "adamw" (
        values: ptr, gradient: ptr, first: ptr, second: ptr, half: ptr, lr: ptr, divisor: ptr, skip: ptr, corrections: ptr,
        beta1: f32, beta2: f32, rest1: f32, rest2: f32, eps: f32, decay: f32, numbers: i64,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_the_order_of_the_declaration() {
        let call = EmbeddingRows { gradient: 3, partial: 1, width: 16, rows: 2 };
        assert_eq!(call.values(), [Value::Pointer(1), Value::Pointer(2), Value::Pointer(3), Value::I32(16)]);
        assert_eq!(EmbeddingRows::<u64>::ARGUMENTS, ["partial", "rows", "gradient", "width"]);
        let (kernel, arguments) = SIGNATURES.iter().find(|(kernel, _)| *kernel == "gelu_forward").expect("declared");
        assert_eq!((*kernel, arguments[3]), (GeluForward::<u64>::KERNEL, ("tokens", "i32")));
    }
}
