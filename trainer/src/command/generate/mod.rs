//! `glm-trainer generate`: fills the blanks of texts.

mod args;
mod filled;
mod input;
mod print;
mod search;

use std::fs;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use glm_text::tokenize::{Tokenizer, TokenizerError};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

pub use self::args::GenerateArgs;
pub use self::input::{Asked, InputError, parse};
use self::input::{Reader, text_request};
use self::print::{Format, Printer, Results};
pub use self::search::SearchArgs;
use crate::checkpoint::locate::Located;
use crate::command::setup::{SetupError, Use, load_model, set_threads, tokenizer_for};
use crate::generate::{GenerateError, Generator, Hypothesis, Request, Search, Settings};
use crate::model::{Glm, Pass};

/// Errors of `generate`.
#[derive(Debug, Error)]
pub enum GenerateCommandError {
    /// Error of weights, settings or device.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Error of the vocabulary.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A text cannot be filled.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file cannot be read.
    #[error("cannot read {origin}: {source}")]
    Read {
        /// The file.
        origin: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Options that do not go together or do not fit the weights.
    #[error("{0}")]
    Options(String),
    /// Error of generation.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The results cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

/// Result of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generated<'a> {
    /// Value of `id` in the input.
    pub id: Option<&'a Value>,
    /// The text, with a blank at its end if none was written.
    pub text: &'a str,
    /// Filled texts, best first; as many as `num_return` asks for.
    pub outputs: Vec<Output<'a>>,
    /// Weights.
    pub weights: &'a Located,
}

/// A filled text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output<'a> {
    /// The text with the pieces in place of the blanks.
    pub text: String,
    /// Sum of the scores of the pieces.
    pub score: f64,
    /// The piece for each blank.
    pub pieces: Vec<Piece<'a>>,
}

/// A generated piece.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Piece<'a> {
    /// Index of the blank among the tokens of the context.
    pub position: usize,
    /// Text.
    pub text: String,
    /// Token ids.
    pub ids: &'a [i32],
    /// Log probability of each token.
    pub log_probs: &'a [f64],
    /// Log probability of the token that ends the piece; `None` if it ends at the maximum length.
    pub end_log_prob: Option<f64>,
    /// Sum of the log probabilities with that of the end; of a beam search, divided by a power of the length.
    pub score: f64,
    /// `eop`: `<|endofpiece|>`; `eos`: end of text; `length`: the maximum length.
    pub finish: &'static str,
}

/// Fills the blanks of texts from the arguments, a file or interactive input, and prints the results.
///
/// # Errors
/// Returns a [`GenerateCommandError`].
pub fn run(args: &GenerateArgs, out: &mut dyn Write) -> Result<(), GenerateCommandError> {
    let given = given(args)?;
    let program = Program::new(args)?;
    match given {
        Some(asked) => program.fill(args, &asked, out),
        None => program.converse(args, out),
    }
}

/// Texts of the arguments or a file; `None` for interactive input.
fn given(args: &GenerateArgs) -> Result<Option<Vec<Asked>>, GenerateCommandError> {
    if !args.texts.is_empty() {
        let numbered = args.texts.iter().enumerate();
        return Ok(Some(numbered.map(|(number, text)| Asked::new(format!("text {}", number + 1), text)).collect()));
    }
    let file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    if args.file.is_none() && io::stdin().is_terminal() {
        return Ok(None);
    }
    let origin = file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
    let mut text = String::new();
    let read = match file {
        Some(file) => fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
        None => io::stdin().read_to_string(&mut text),
    };
    match read {
        Ok(_) => Ok(Some(parse(&origin, &text)?)),
        Err(source) => Err(GenerateCommandError::Read { origin, source }),
    }
}

/// Model with its tokenizer and settings.
struct Program {
    tokenizer: Tokenizer,
    model: Glm,
    pass: Pass,
    settings: Settings,
    weights: Located,
}

impl Program {
    fn new(args: &GenerateArgs) -> Result<Self, GenerateCommandError> {
        let mut config = args.resolve().map_err(SetupError::from)?;
        set_threads(&config);
        let device = args.device.resolve().map_err(SetupError::from)?;
        let weights = args.weights.open().map_err(SetupError::from)?;
        let tokenizer = tokenizer_for(&weights, args.tokenizer.as_deref())?;
        let sizes = weights.sizes().map_err(SetupError::from)?;
        config.data.max_seq_len = sizes.positions.saturating_sub(1).max(1);
        let special = tokenizer.special();
        let last = special.masks().document.max(special.masks().sentence);
        if args.task_mask && last as usize >= sizes.vocab_rows {
            return Err(GenerateCommandError::Options(format!(
                "the weights in {} have {} rows of word embeddings and none for [gMASK] and [sMASK]; leave --task-mask out",
                weights.path().display(),
                sizes.vocab_rows
            )));
        }
        let pass = Pass::evaluation(config.train.precision.on(device).kind(), config.train.kernels);
        let model = load_model(&weights, &config, tokenizer.identity(), device, Use::Inference(pass.kind))?;
        let settings = Settings {
            search: args.search.resolve(model.config().positions).map_err(GenerateCommandError::Options)?,
            start: special.sop,
            ends: vec![special.eop, special.pad],
            sequences: args.batch_size,
            sequences_setting: "--batch-size",
            batch_tokens: match config.data.micro_batch_tokens {
                0 => Settings::default().batch_tokens,
                tokens => tokens,
            },
        };
        let program = Self { tokenizer, model, pass, settings, weights: weights.located().clone() };
        program.settings.search.check(program.model.config().positions)?;
        Ok(program)
    }

    fn generator(&self) -> Generator<'_> {
        Generator::new(&self.model, self.pass, self.settings.clone())
    }

    fn reader(&self, args: &GenerateArgs) -> Reader<'_> {
        Reader::new(&self.tokenizer, args.task_mask, self.model.config().positions)
    }

    /// The way to choose tokens for a text, and the number of its results.
    fn search(&self, args: &GenerateArgs, asked: &Asked) -> Result<(Search, Results), InputError> {
        let invalid = |reason| InputError::Settings { origin: asked.origin.clone(), reason };
        let positions = self.model.config().positions;
        let own = args.search.with(&asked.settings).map_err(invalid)?;
        let search = own.resolve(positions).map_err(invalid)?;
        search.check(positions).map_err(|error| invalid(error.to_string()))?;
        Ok((search, Results { samples: own.samples(), outputs: own.num_return }))
    }

    /// Fills texts, all of which are checked before the first is filled.
    fn fill(&self, args: &GenerateArgs, asked: &[Asked], out: &mut dyn Write) -> Result<(), GenerateCommandError> {
        let mut reader = self.reader(args);
        let texts = asked.iter().map(|asked| reader.read(asked)).collect::<Result<Vec<_>, _>>()?;
        let searches = asked.iter().map(|asked| self.search(args, asked)).collect::<Result<Vec<_>, _>>()?;
        let results: Vec<_> = searches.iter().map(|(_, results)| *results).collect();
        let requests: Vec<_> = texts
            .iter()
            .zip(0_u64..)
            .zip(searches)
            .flat_map(|((text, number), (search, Results { samples, .. }))| {
                (0..samples as u64).map(move |sample| Request {
                    context: text.context.clone(),
                    key: number << 32 | sample,
                    search: Some(search),
                })
            })
            .collect();
        let format = match (args.json, io::stdout().is_terminal()) {
            (true, _) => Format::Json { weights: &self.weights },
            (false, is_terminal) => Format::Text { flush: is_terminal, colour: args.color.for_stdout().colour },
        };
        let mut printer = Printer::new(&self.tokenizer, asked, &texts, &results, format, out);
        self.generator().run(&requests, &mut |event| printer.receive(event))?;
        Ok(out.flush()?)
    }

    /// Fills typed texts until the end of the input.
    fn converse(&self, args: &GenerateArgs, out: &mut dyn Write) -> Result<(), GenerateCommandError> {
        let (mut input, mut prompts) = (io::stdin().lock(), io::stderr());
        let typed = |source| GenerateCommandError::Read { origin: "standard input".to_owned(), source };
        loop {
            writeln!(prompts, "Text (one line, with [MASK] in place of each blank):")?;
            let mut line = String::new();
            if input.read_line(&mut line).map_err(typed)? == 0 {
                return Ok(());
            }
            let asked = text_request(&line);
            match self.reader(args).read(&asked) {
                Ok(_) => self.fill(args, &[asked], out)?,
                Err(error) => writeln!(prompts, "{error}. Try again.")?,
            }
            writeln!(prompts)?;
        }
    }
}

/// Name of the token that ended a piece.
fn finish(hypothesis: &Hypothesis, eop: i32) -> &'static str {
    match hypothesis.end {
        None => "length",
        Some(end) if end.token == eop => "eop",
        Some(_) => "eos",
    }
}
