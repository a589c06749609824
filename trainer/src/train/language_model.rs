//! Scores of the windows of texts: what a model gives to each token, and what it would have put there.

use std::sync::Arc;

use glm_schemas::vocab::TokenId;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::batch::device::DeviceBatch;
use crate::batch::out_of_memory::explain;
use crate::batch::packed::Batch;
use crate::data::DataError;
use crate::data::partition::sort_into_batches;
use crate::model::{Glm, Pass};
use crate::task::lm::{Frame, Window};

/// Maximum number of tokens per batch, whatever the settings allow: unlike in training, almost all tokens are scored, and the logits of
/// each take 120 kB.
const MAX_TOKENS: usize = 2048;

/// A model with the special tokens of its windows.
#[derive(Debug, Clone, Copy)]
pub struct WindowScorer<'a> {
    /// The model.
    pub model: &'a Glm,
    /// Settings of the forward pass.
    pub pass: Pass,
    /// Special tokens of each window.
    pub frame: Frame,
    /// Maximum number of tokens per batch.
    pub micro_batch_tokens: usize,
    /// True if the most probable tokens are wanted too.
    pub guesses: bool,
}

/// Scores of the tokens of a window that count, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WindowScores {
    /// Log probability of each token in nats.
    pub log_probs: Vec<f64>,
    /// The most probable token in the place of each, the first of equal ones; empty without [`WindowScorer::guesses`].
    pub guesses: Vec<TokenId>,
}

impl WindowScores {
    /// Sum of the log probabilities.
    pub fn log_prob(&self) -> f64 {
        self.log_probs.iter().sum()
    }
}

impl WindowScorer<'_> {
    /// Scores windows and passes each with its index to `on_window`, the longest first. Windows share batches without padding; what is
    /// packed together does not change a score beyond rounding.
    ///
    /// # Errors
    /// [`DataError`] where libtorch rejects a batch or it does not fit into memory, and the errors of `on_window`.
    pub fn score<E: From<DataError>>(
        &self,
        windows: &[Window<'_>],
        mut on_window: impl FnMut(usize, WindowScores) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut order: Vec<usize> = (0..windows.len()).collect();
        // `[CLS]`, the blank, its end and the start of piece; the last token of the piece is not an input.
        let size = |number: &usize| windows[*number].tokens.len() + 3;
        let budget = self.micro_batch_tokens.min(MAX_TOKENS);
        for run in sort_into_batches(&mut order, budget, |number| (size(number), size(number))) {
            let numbers = &order[run];
            let tokens = numbers.iter().map(size).sum();
            let mut batch = Batch::with_capacity(tokens, tokens);
            numbers.iter().for_each(|&number| windows[number].pack(number, &self.frame, &mut batch));
            let (log_probs, guesses) = self.forward(&Arc::new(batch))?;
            let mut first = 0;
            for &number in numbers {
                let own = first..first + windows[number].counted();
                first = own.end;
                let scores = WindowScores {
                    log_probs: log_probs[own.clone()].to_vec(),
                    guesses: guesses.get(own).unwrap_or_default().to_vec(),
                };
                on_window(number, scores)?;
            }
        }
        Ok(())
    }

    /// Log probabilities and guesses of the tokens of a batch that count, which are its groups and its scored tokens.
    fn forward(&self, batch: &Arc<Batch>) -> Result<(Vec<f64>, Vec<TokenId>), DataError> {
        let failed = |error| explain::<DataError>(error, "an evaluation", batch.tokens());
        let forward = || -> Result<_, TchError> {
            let device = self.model.parameters().device();
            let batch = batch.to_device(device, self.model.backend(&self.pass).layout())?;
            let (log_probs, guesses) = self.log_probs(&batch)?;
            let log_probs = Vec::<f64>::try_from(log_probs.f_to_device(Device::Cpu)?.f_totype(Kind::Double)?)?;
            let guesses = match guesses {
                Some(guesses) => Vec::<TokenId>::try_from(guesses.f_to_device(Device::Cpu)?.f_totype(Kind::Int)?)?,
                None => Vec::new(),
            };
            Ok((log_probs, guesses))
        };
        forward().map_err(failed)
    }

    fn log_probs(&self, batch: &DeviceBatch) -> Result<(Tensor, Option<Tensor>), TchError> {
        no_grad(|| match self.guesses {
            true => self.model.target_log_probs_and_best(batch, &self.pass).map(|(log_probs, best)| (log_probs, Some(best))),
            false => self.model.target_log_probs(batch, &self.pass).map(|log_probs| (log_probs, None)),
        })
    }
}
