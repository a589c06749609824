//! Error of a batch that does not fit into memory.

use tch::TchError;
use thiserror::Error;

/// A batch that does not fit into memory, with the setting that makes batches smaller. libtorch's own text is the source.
#[derive(Debug, Error)]
#[error(
    "out of memory in {doing} with a batch of {tokens} tokens; set data.micro_batch_tokens below {}, which does not change results",
    tokens / 2
)]
pub struct OutOfMemory {
    doing: &'static str,
    tokens: usize,
    source: TchError,
}

/// Explains an error of libtorch in `doing` with a batch of `tokens` tokens, if it is out of memory.
pub fn explain<E: From<OutOfMemory> + From<TchError>>(error: TchError, doing: &'static str, tokens: usize) -> E {
    if is_out_of_memory(&error) { OutOfMemory { doing, tokens, source: error }.into() } else { error.into() }
}

/// Returns true if memory has run out. libtorch has no code for this error, so it is known by its texts: of the allocator for GPUs, of CUDA's runtime, of cuBLAS, and
/// of the allocator for CPUs.
pub fn is_out_of_memory(error: &TchError) -> bool {
    const TEXTS: [&str; 4] =
        ["CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory"];
    let text = error.to_string();
    TEXTS.iter().any(|known| text.contains(known))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::data::DataError;
    use crate::train::TrainError;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn out_of_memory_names_the_setting_to_change() {
        let text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 GiB";
        let error: TrainError = explain(TchError::Torch(text.to_owned()), "a training step", 20_001);
        assert_eq!(
            error.to_string(),
            "out of memory in a training step with a batch of 20001 tokens; \
             set data.micro_batch_tokens below 10000, which does not change results"
        );
        assert!(error.source().expect("libtorch's text").to_string().contains(text));
        let error: DataError = explain(TchError::Torch(text.to_owned()), "an evaluation", 600);
        assert!(matches!(error, DataError::OutOfMemory(_)));
    }

    #[test]
    fn memory_of_a_cpu_runs_out_too() {
        let error = Tensor::f_empty([1 << 60], (Kind::Uint8, Device::Cpu)).expect_err("2^60 bytes");
        assert!(matches!(explain(error, "a training step", 600), TrainError::OutOfMemory(_)));
    }

    #[test]
    fn other_errors_stay_what_they_are() {
        let error = TchError::Torch("CUDA error: an illegal memory access was encountered".to_owned());
        assert!(matches!(explain(error, "a training step", 600), TrainError::Torch(_)));
    }
}
