//! Metrics of generated texts, as functions of strings.
//!
//! - [`rouge`]: ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum with stemming.
//! - [`summary`]: ROUGE as the published fine-tuning reports it, which cleans tokenized texts and drops short and repeated sentences.
//! - [`answer`]: exact match and F1 of short answers.
//! - [`bleu`]: BLEU-4 of a corpus.
//! - [`stem`]: Porter's stemmer, which ROUGE uses.

pub mod answer;
pub mod bleu;
#[cfg(test)]
mod golden_tests;
pub mod rouge;
pub mod stem;
pub mod summary;
