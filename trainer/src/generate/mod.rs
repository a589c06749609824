//! Generation: fills the blanks of contexts with pieces, chosen greedily, at random, or by beam search.
//!
//! The decisions ([`filter`], [`beam`], [`single`]) know no model: they choose from lists of [`candidates`]. The [`engine`] feeds their
//! choices to a model with a [cache](crate::model::KeyValueCache), for many sequences at a time.
//!
//! ```
//! use glm_schemas::vocab::SpecialIds;
//! use glm_trainer::generate::{BeamSettings, Context, beam_search};
//! use glm_trainer::model::{Glm, Kernels, Pass, Preset};
//! use tch::{Device, Kind};
//!
//! let model = Glm::random(&Preset::TINY.config(), Kind::Float, Device::Cpu)?;
//! let pass = Pass::evaluation(Kind::Float, Kernels::Auto);
//! let special = SpecialIds::BERT_UNCASED;
//! // `[CLS] it was [MASK] . [eos]`
//! let context = Context { ids: vec![special.cls, 2009, 2001, special.mask, 1012, special.pad], blanks: vec![3] };
//! let settings = BeamSettings { beams: 3, max_length: 4, ..BeamSettings::default() };
//! let found = beam_search(&model, &pass, special, &[context], &settings, 32)?;
//! assert!(found[0].len() == 3 && found[0][0].score >= found[0][1].score);
//! # Ok::<(), glm_trainer::generate::GenerateError>(())
//! ```

pub mod beam;
pub mod candidates;
pub mod engine;
#[cfg(test)]
mod engine_tests;
pub mod filter;
pub mod request;
mod scores;
pub mod single;

use std::io;

use glm_schemas::vocab::{SpecialIds, TokenId};
use tch::TchError;
use thiserror::Error;

pub use self::beam::{BeamSettings, Hypothesis};
pub use self::engine::Generator;
pub use self::filter::Filter;
pub use self::request::{Event, Request, Search, Settings};
pub use self::single::Limits;
use crate::model::{Glm, Pass};

/// A context with its blanks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Token ids, all of which see each other.
    pub ids: Vec<TokenId>,
    /// Indices of the blanks in `ids`, in the order in which they are filled. A piece sees the pieces before it.
    pub blanks: Vec<usize>,
}

/// Errors of generation.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// Error of libtorch, for example out of memory.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// The contexts and their pieces do not fit into memory.
    #[error("{}", out_of_memory(*texts, *beams, *tokens, setting))]
    OutOfMemory {
        /// Number of texts that were decoded together.
        texts: usize,
        /// Number of beams per text.
        beams: usize,
        /// Number of tokens of the longest text, with the piece so far.
        tokens: usize,
        /// Setting that limits the number of texts.
        setting: &'static str,
        /// Error of libtorch.
        source: TchError,
    },
    /// The receiver of events failed.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    /// A context does not fit in the table of positions.
    #[error("request {request}: the context has {tokens} tokens, but the weights have {positions} positions")]
    TooLong {
        /// Index of the request.
        request: usize,
        /// Number of its tokens.
        tokens: usize,
        /// Number of positions of the weights.
        positions: usize,
    },
    /// A context has no blank.
    #[error("request {request}: the context has no blank")]
    NoBlank {
        /// Index of the request.
        request: usize,
    },
    /// A blank is outside the context.
    #[error("request {request}: the blank at token {blank} is outside the context, which has {tokens} tokens")]
    BlankOutside {
        /// Index of the request.
        request: usize,
        /// Index of the blank.
        blank: usize,
        /// Number of tokens of the context.
        tokens: usize,
    },
    /// Settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The model's output is not a number.
    #[error("request {request}: the model's output is not a number; check the weights, or use --precision fp32")]
    NotANumber {
        /// Index of the request.
        request: usize,
    },
}

/// Sentence for [`GenerateError::OutOfMemory`].
fn out_of_memory(texts: usize, beams: usize, tokens: usize, setting: &str) -> String {
    match (texts, beams) {
        (2.., _) => format!(
            "out of memory in generation for {texts} texts together; set {setting} to {} or less, which does not change results",
            texts / 2
        ),
        (_, 2..) => format!("out of memory in generation with {beams} beams for a text of {tokens} tokens; use fewer beams"),
        _ => format!("out of memory in generation for a text of {tokens} tokens; shorten it, or use precision bf16"),
    }
}

/// Fills the blanks of contexts by beam search with `<|endofpiece|>` as the only end. Returns the hypotheses for the last blank of each
/// context, best first; earlier blanks are filled with their best piece. Up to `sequences` contexts are decoded together.
///
/// # Errors
/// A [`GenerateError`]: contexts or settings that do not fit the model, or an error of libtorch.
pub fn beam_search(
    model: &Glm,
    pass: &Pass,
    special: SpecialIds,
    contexts: &[Context],
    settings: &BeamSettings,
    sequences: usize,
) -> Result<Vec<Vec<Hypothesis>>, GenerateError> {
    let found = fill_blanks(model, pass, special, contexts, settings, sequences)?;
    Ok(found.into_iter().map(|mut pieces| pieces.pop().unwrap_or_default()).collect())
}

/// As [`beam_search`], but returns the hypotheses for each blank of each context.
///
/// # Errors
/// As [`beam_search`].
pub fn fill_blanks(
    model: &Glm,
    pass: &Pass,
    special: SpecialIds,
    contexts: &[Context],
    settings: &BeamSettings,
    sequences: usize,
) -> Result<Vec<Vec<Vec<Hypothesis>>>, GenerateError> {
    let settings = Settings {
        search: Search::Beam(*settings),
        start: special.sop,
        ends: vec![special.eop],
        sequences,
        sequences_setting: "seq2seq.decode_batch_size",
        ..Settings::default()
    };
    let requests: Vec<_> = contexts.iter().cloned().map(|context| Request { context, key: 0, search: None }).collect();
    let mut found = vec![Vec::new(); contexts.len()];
    Generator::new(model, *pass, settings).run(&requests, &mut |event| {
        if let Event::Done { request, pieces } = event {
            found[request] = pieces;
        }
        Ok(())
    })?;
    Ok(found)
}
