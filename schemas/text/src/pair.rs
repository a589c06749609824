//! Pairs of a source and a target, laid out as in the published recipes.
//!
//! | template | context | target |
//! | --- | --- | --- |
//! | [`Template::Continuation`] | `source [MASK] [PAD]`, the end of the source is kept | the target |
//! | [`Template::Summary`] | `[MASK] Content: source` | the target |
//! | [`Template::Answer`] | `question [MASK] . source` | the answer |
//! | [`Template::Question`] | `source Question: [MASK] Answer: answer`, the source is kept around the answer | the question |
//! | [`Template::ChineseAnswer`] | `问题：question答案：[MASK] source` | the answer |
//! | [`Template::Blanks`] | `source`, which holds `[MASK]` itself; the source is kept around the first one | a part for each `[MASK]` |
//!
//! All contexts start with `[CLS]`, which is not part of the tokens here.

use std::fmt;

use glm_schemas::seq2seq::encoding::{Keep, Pair};
use glm_schemas::vocab::TokenId;
use serde::{Deserialize, Serialize};

use crate::tokenize::{Session, TokenizerError};

/// Layout of the context of a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// The target continues the source: own data, translation, dialogue.
    #[default]
    Continuation,
    /// The target summarizes the source.
    Summary,
    /// The target answers a question about the source.
    Answer,
    /// The target is a question about the source, given its answer.
    Question,
    /// The target answers a Chinese question about the source.
    ChineseAnswer,
    /// The target has a part for each `[MASK]` of the source, with [`PART_END`] between two parts.
    Blanks,
}

/// Separator of the parts of a target for several blanks.
pub const PART_END: &str = "|";

impl Template {
    /// All templates.
    pub const ALL: [Self; 6] =
        [Self::Continuation, Self::Summary, Self::Answer, Self::Question, Self::ChineseAnswer, Self::Blanks];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Continuation => "continuation",
            Self::Summary => "summary",
            Self::Answer => "answer",
            Self::Question => "question",
            Self::ChineseAnswer => "chinese-answer",
            Self::Blanks => "blanks",
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Texts of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairText<'a> {
    /// Source.
    pub source: &'a str,
    /// Question or, for [`Template::Question`], answer about the source; empty for other templates.
    pub prompt: &'a str,
    /// Target; empty if it is unknown.
    pub target: &'a str,
}

/// Tokens of a pair, not truncated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairTokens {
    /// Tokens before the source, without `[CLS]`.
    pub prefix: Vec<TokenId>,
    /// The source.
    pub source: Vec<TokenId>,
    /// Tokens after the source.
    pub suffix: Vec<TokenId>,
    /// Part of the source that is kept if it is too long.
    pub keep: Keep,
    /// Index of the source's token around which it is kept.
    pub focus: Option<usize>,
    /// The target, without end of piece.
    pub target: Vec<TokenId>,
}

impl PairTokens {
    /// Borrows the tokens.
    pub fn as_pair(&self) -> Pair<'_> {
        let Self { prefix, source, suffix, keep, focus, target } = self;
        Pair { prefix, source, suffix, keep: *keep, focus: *focus, target }
    }
}

impl Template {
    /// Tokenizes a pair.
    ///
    /// # Errors
    /// Errors of [`Session::encode`].
    pub fn tokens(self, session: &mut Session<'_>, text: &PairText<'_>) -> Result<PairTokens, TokenizerError> {
        let special = session.tokenizer().special();
        let mut encode = |text: String| session.encode(&text).map(|tokens| tokens.ids);
        let PairText { source, prompt, target } = *text;
        let (prompt, whole) = (prompt.trim(), encode(format!(" {target}"))?);
        let pair = PairTokens { prefix: vec![], source: vec![], suffix: vec![], keep: Keep::Start, focus: None, target: whole };
        Ok(match self {
            Self::Continuation => PairTokens {
                source: encode(source.to_owned())?,
                suffix: vec![special.mask, special.pad],
                keep: Keep::End,
                ..pair
            },
            Self::Summary => {
                let mut prefix = vec![special.mask];
                prefix.extend(encode(" Content:".to_owned())?);
                PairTokens { prefix, source: encode(format!(" {source}"))?, ..pair }
            }
            Self::Answer => {
                let mut prefix = encode(format!(" {prompt}"))?;
                prefix.push(special.mask);
                prefix.extend(encode(".".to_owned())?);
                PairTokens { prefix, source: encode(format!(" {}", source.trim_end()))?, ..pair }
            }
            Self::Question => {
                let source = encode(format!("{} Question:", source.trim_end()))?;
                let mut suffix = vec![special.mask];
                suffix.extend(encode(format!(" Answer: {prompt}"))?);
                let answer = encode(format!(" {prompt}"))?;
                let focus = match answer.as_slice() {
                    [] => None,
                    answer => source.windows(answer.len()).position(|window| window == answer),
                };
                PairTokens { source, suffix, keep: Keep::Around, focus, ..pair }
            }
            Self::Blanks => {
                let source = encode(source.to_owned())?;
                let parts = target.split(PART_END).map(|part| encode(format!(" {part}"))).collect::<Result<Vec<_>, _>>()?;
                let focus = source.iter().position(|id| *id == special.mask);
                PairTokens { source, keep: Keep::Around, focus, target: parts.join(&special.eop), ..pair }
            }
            Self::ChineseAnswer => {
                let mut prefix = encode(format!("问题：{prompt}答案："))?;
                prefix.push(special.mask);
                PairTokens { prefix, source: encode(source.trim_end().to_owned())?, ..pair }
            }
        })
    }
}

/// Window of a context, for questions about texts that are too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Text of the window: decoded tokens.
    pub text: String,
    /// Answer of the question in this window: the text given, or [`NO_ANSWER`].
    pub answer: String,
    /// True if the window holds the answer.
    pub has_answer: bool,
}

/// Answer of a window that does not hold the answer.
pub const NO_ANSWER: &str = "N/A";

/// Cuts a context into overlapping windows for a question, as published for SQuAD: a window has `max_source` tokens less those of the question
/// and starts `max_source / 2` tokens after the one before it. Windows without the answer are left out if `only_answered`.
///
/// There are no windows if the question leaves no room.
///
/// # Errors
/// Errors of [`Session::encode`].
pub fn windows(
    session: &mut Session<'_>,
    context: &str,
    question: &str,
    answer: &str,
    max_source: usize,
    only_answered: bool,
) -> Result<Vec<Window>, TokenizerError> {
    let mut encode = |text: &str| session.encode(text).map(|tokens| tokens.ids);
    let (context, question, answer_ids) = (encode(context)?, encode(&format!(" {question}"))?, encode(answer)?);
    let tokenizer = session.tokenizer();
    let decoded_answer = tokenizer.decode(&answer_ids);
    let step = max_source / 2;
    let Some(length) = max_source.checked_sub(3 + question.len()).filter(|_| step > 0) else { return Ok(Vec::new()) };
    let mut windows = Vec::new();
    for start in (0..context.len()).step_by(step) {
        let tokens = &context[start..context.len().min(start + length)];
        let text = tokenizer.decode(tokens);
        let has_answer = !decoded_answer.is_empty() && text.contains(&decoded_answer);
        if only_answered && !has_answer {
            continue;
        }
        let answer = if has_answer { answer } else { NO_ANSWER }.to_owned();
        windows.push(Window { text, answer, has_answer });
        if tokens.len() < length {
            break;
        }
    }
    Ok(windows)
}
