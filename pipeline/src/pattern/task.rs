//! A pattern file with one of its patterns chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use glm_schemas::cloze::encoding::{BlankPosition, ChoiceEncoder};
use glm_schemas::manifest::{ClozeManifest, Split, hex};
use glm_schemas::vocab::SpecialIds;
use glm_text::tokenize::{Tokenizer, TokenizerError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::catalogue;
use super::error::PatternError;
use super::file::{ChoiceSource, ContextPart, PatternFile, RecordForm, TextSource};
use super::template::{Part, Template};
use crate::source::input::TaskFiles;
use crate::source::table::Table;

/// Extension of pattern files.
pub const EXTENSION: &str = "toml";

/// A task: a pattern file, and one of its patterns.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternTask {
    /// Name of an embedded file, or path.
    name: String,
    number: usize,
    multi_token: bool,
    text: String,
    pub(super) file: PatternFile,
    /// The context.
    pub(super) context: Template,
    /// Contexts that are tried before it: the first one is used whose texts the record has.
    pub(super) preferred: Vec<Template>,
    pub(super) words: Vec<Template>,
    /// Texts that are made of others.
    pub(super) joined: BTreeMap<String, Template>,
    /// Answer that the example brings.
    pub(super) answer: Option<Template>,
}

/// Pattern file and choice of a pattern, for files of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternSource {
    name: String,
    text: String,
    number: usize,
    multi_token: bool,
}

/// Returns true if this is the path of a pattern file rather than the name of an embedded one.
pub fn is_path(task: &str) -> bool {
    Path::new(task).extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

impl PatternTask {
    /// Reads an embedded pattern file or one at a path, and chooses a pattern: `number`, or that of the file.
    ///
    /// # Errors
    /// [`PatternError`] if there is no such file or pattern, or it is not valid.
    pub fn open(task: &str, number: Option<usize>, multi_token: bool) -> Result<Self, PatternError> {
        if is_path(task) {
            let path = PathBuf::from(task);
            let text = fs::read_to_string(&path).map_err(|source| PatternError::Read { path, source })?;
            return Self::parse(task, &text, number, multi_token);
        }
        let text = catalogue::find(task).ok_or_else(|| PatternError::Unknown { name: task.to_owned() })?;
        Self::parse(task, text, number, multi_token)
    }

    /// Parses a pattern file.
    ///
    /// # Errors
    /// [`PatternError`] if there is no such pattern, or the file is not valid.
    pub fn parse(name: &str, text: &str, number: Option<usize>, multi_token: bool) -> Result<Self, PatternError> {
        let invalid = |reason: String| PatternError::Invalid { name: name.to_owned(), reason };
        let file: PatternFile = toml::from_str(text).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        if file.patterns.is_empty() {
            return Err(invalid("it has no [[patterns]]".to_owned()));
        }
        let last = file.patterns.len() - 1;
        let number = number.unwrap_or(file.pattern);
        let mut joined = BTreeMap::new();
        for (text, source) in &file.texts {
            if let TextSource::Template(template) = source {
                joined.insert(text.clone(), Template::of_texts(template).map_err(invalid)?);
            }
        }
        if let Some((text, _)) = joined.iter().find(|(_, template)| template.names().any(|name| joined.contains_key(name))) {
            return Err(invalid(format!(
                "the text `{text}` is made of a text that is made of others; use the fields themselves"
            )));
        }
        let is_both =
            |source: &TextSource| matches!(source, TextSource::Field(field) if field.before.is_some() && field.after.is_some());
        if let Some((text, _)) = file.texts.iter().find(|(_, source)| is_both(source)) {
            return Err(invalid(format!("the text `{text}` has both `before` and `after`; use one of them")));
        }
        let answer = match &file.choices {
            Some(ChoiceSource::Answer { answer, .. }) => Some(Template::of_texts(answer).map_err(invalid)?),
            Some(ChoiceSource::List { .. }) | None => None,
        };
        check_labels(&file).map_err(invalid)?;
        let mut chosen = None;
        // All patterns are checked, so that a mistake does not wait for the day on which its pattern is used.
        for (index, pattern) in file.patterns.iter().enumerate() {
            let of_pattern = |reason: String| invalid(format!("pattern {index}: {reason}"));
            let contexts: Result<Vec<_>, _> = pattern.context.iter().map(|text| context(text)).collect();
            let contexts = contexts.map_err(of_pattern)?;
            let words: Result<Vec<_>, _> = pattern.words.iter().map(|word| Template::of_texts(word)).collect();
            let words = words.map_err(of_pattern)?;
            check_words(&file, words.len()).map_err(of_pattern)?;
            if index == number {
                chosen = Some((contexts, words));
            }
        }
        let Some((mut preferred, words)) = chosen else {
            return Err(PatternError::Number { name: name.to_owned(), number, last });
        };
        let Some(context) = preferred.pop() else { return Err(invalid(format!("pattern {number} has no context"))) };
        let multi_token = multi_token || file.multi_token;
        let text = text.to_owned();
        Ok(Self { name: name.to_owned(), number, multi_token, text, file, context, preferred, words, joined, answer })
    }

    /// Name of the embedded file, or path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Content of the file.
    pub fn file(&self) -> &PatternFile {
        &self.file
    }

    /// Returns true if choices have any number of tokens.
    pub fn multi_token(&self) -> bool {
        self.multi_token
    }

    /// Returns true if the end of piece is predicted after the tokens of a choice.
    pub fn end_of_piece(&self) -> bool {
        self.file.end_of_piece.unwrap_or(self.multi_token)
    }

    fn keep_end(&self) -> bool {
        self.file.keep == ContextPart::End
    }

    /// Name and sha256 of the file, the number of the pattern, and whether it is multi-token: what the rows depend on.
    pub fn identity(&self) -> String {
        let form = if self.multi_token { " multi-token" } else { "" };
        format!("{} {} pattern {}{form}", self.manifest().task, hex(&Sha256::digest(&self.text)), self.number)
    }

    /// All that is needed to make the task again.
    pub fn source(&self) -> PatternSource {
        let Self { name, text, number, multi_token, .. } = self.clone();
        PatternSource { name, text, number, multi_token }
    }

    /// Makes the task again.
    ///
    /// # Errors
    /// [`PatternError`] if the source is not that of a task.
    pub fn from_source(source: PatternSource) -> Result<Self, PatternError> {
        Self::parse(&source.name, &source.text, Some(source.number), source.multi_token)
    }

    /// The raw files of the task.
    pub fn raw_files(&self) -> TaskFiles {
        let named = self.file.files.named().map(|(split, file)| (split, file.name().to_owned()));
        TaskFiles { folder: self.file.folder.clone(), named: named.collect() }
    }

    /// Table layout of a raw file of a split, if it is a table.
    pub fn table(&self, split: Split, name: &str) -> Option<Table<'_>> {
        let is_csv = match self.file.files.format.unwrap_or_else(|| RecordForm::of_name(name)) {
            RecordForm::Jsonl => return None,
            RecordForm::Tsv => false,
            RecordForm::Csv => true,
        };
        Some(Table { is_csv, columns: self.file.files.columns(split), needed: self.needed(split) })
    }

    /// Fields that every record needs.
    fn needed(&self, split: Split) -> Vec<&str> {
        // Of several contexts, the record decides.
        let context = Some(&self.context).filter(|_| self.preferred.is_empty());
        let templates = context.into_iter().chain(&self.words).chain(&self.answer);
        let mut needed = Vec::new();
        for name in templates.flat_map(Template::names) {
            let names = self.joined.get(name).map_or_else(|| vec![name], |template| template.names().collect());
            needed.extend(names.into_iter().map(|name| match self.file.texts.get(name) {
                Some(TextSource::Field(source)) => source.field.as_str(),
                Some(TextSource::Template(_)) | None => name,
            }));
        }
        needed.extend((split == Split::Train).then_some(self.file.label.field.as_str()));
        needed
    }

    /// Entry of the task in the manifest.
    pub fn manifest(&self) -> ClozeManifest {
        let stem = || Path::new(&self.name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let task = if is_path(&self.name) { stem().unwrap_or_else(|| self.name.clone()) } else { self.name.clone() };
        ClozeManifest {
            task,
            pattern: Some(self.number.to_string()),
            end_of_piece: self.end_of_piece(),
            first_mask: false,
            keep_end: self.keep_end(),
            labels: self.file.label.names.clone(),
            metrics: self.file.metrics.clone(),
            length_penalty: self.file.length_penalty,
            loss: self.file.loss,
        }
    }

    /// Encoder of examples, for sequences of at most `max_seq_len` tokens: that of [`Self::manifest`].
    pub fn encoder(&self, special: SpecialIds, max_seq_len: usize) -> ChoiceEncoder {
        let encoder = ChoiceEncoder::new(special, max_seq_len);
        encoder.with_form(self.end_of_piece(), BlankPosition::Blank).with_kept_end(self.keep_end())
    }

    /// Checks that the words of a task that is not multi-token are single tokens, as far as they do not depend on the example.
    ///
    /// # Errors
    /// [`PatternError::Word`], or the error of the tokenizer.
    pub fn check_tokens(&self, tokenizer: &Tokenizer) -> Result<Result<(), PatternError>, TokenizerError> {
        if self.multi_token {
            return Ok(Ok(()));
        }
        let mut session = tokenizer.session();
        for word in &self.words {
            let [Part::Literal(word)] = &word.0[..] else { continue };
            let tokens = session.encode(word)?.ids.len();
            if tokens != 1 {
                let (name, pattern) = (self.name.clone(), self.number);
                return Ok(Err(PatternError::Word { name, pattern, word: word.clone(), tokens }));
            }
        }
        Ok(Ok(()))
    }
}

fn check_labels(file: &PatternFile) -> Result<(), String> {
    let names: BTreeSet<String> = file.label.names.iter().map(|name| name.to_lowercase()).collect();
    if names.len() != file.label.names.len() {
        return Err("two labels have the same name".to_owned());
    }
    if let Some(train) = file.label.train.as_ref().filter(|train| !file.label.names.contains(train)) {
        return Err(format!("training keeps the label `{train}`, which is not one of the names"));
    }
    if file.mirror.is_some() && file.label.names.len() != 2 {
        return Err("`mirror` needs two labels".to_owned());
    }
    if matches!(file.choices, Some(ChoiceSource::Answer { .. })) && file.label.names.len() != 2 {
        return Err("`choices.answer` needs two labels: that of a wrong answer, and that of a right one".to_owned());
    }
    Ok(())
}

/// Parses a context and checks it.
fn context(text: &str) -> Result<Template, String> {
    let context = Template::parse(text)?;
    let blanks = context.count(&Part::Blank);
    if blanks != 1 {
        return Err(format!("`{text}` has {blanks} blanks, it must have one: {{blank}}"));
    }
    let bars = context.count(&Part::GroupB);
    if bars > 1 {
        return Err(format!("`{text}` has {bars} places where group B starts, it can have one"));
    }
    Ok(context)
}

fn check_words(file: &PatternFile, words: usize) -> Result<(), String> {
    match (&file.choices, file.label.names.len()) {
        (Some(_), _) if words > 0 => Err("it has words, but the choices are those of the examples".to_owned()),
        (None, labels) if words != labels => Err(format!("it has {words} words for {labels} labels")),
        (None, 0) => Err("it has no words, and the file names no choices".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [label]
        names = ["no", "yes"]
        [[patterns]]
        context = "{text*} {blank}"
        words = ["bad", "good"]
    "#;

    fn reason(text: &str) -> String {
        PatternTask::parse("x.toml", text, None, false).expect_err("invalid").to_string()
    }

    /// The tokenizer for which an embedded file is written; for Chinese a small one, which has the words.
    fn tokenizer(name: &str) -> Tokenizer {
        let words = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/clue/words.model");
        Tokenizer::load(name.starts_with("clue/").then_some(words.as_path())).expect("a tokenizer")
    }

    #[test]
    fn all_embedded_files_are_valid() {
        for (name, text) in catalogue::ALL {
            let task = PatternTask::parse(name, text, None, false).unwrap_or_else(|error| panic!("{error}"));
            assert!(!task.file.about.is_empty(), "{name}");
            for number in 0..task.file.patterns.len() {
                // The words of X-Stance are also German and French.
                let multi_token = *name == "xstance" && ![2, 3].contains(&number);
                let task = PatternTask::open(name, Some(number), multi_token).expect("valid");
                task.check_tokens(&tokenizer(name)).expect("tokens").expect("single tokens");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let task = PatternTask::parse("a/moods.toml", FILE, None, true).expect("valid");
        assert_eq!((task.manifest().task.as_str(), task.manifest().end_of_piece), ("moods", true));
        assert!(task.identity().ends_with(" pattern 0 multi-token"));
        for (from, to, expected) in [
            ("{blank}", "", "pattern 0: `{text*} ` has 0 blanks"),
            ("{blank}", "{blank}{|}{|}", "has 2 places"),
            ("\"bad\", ", "", "pattern 0: it has 1 words for 2 labels"),
            ("\"no\"", "\"YES\"", "two labels have the same name"),
            ("names", "name", "unknown field `name`"),
            ("{text*}", "{text", "unpaired brace"),
            ("[label]", "mirror = [\"a\", \"b\"]\n[label]\ntrain = \"maybe\"", "training keeps the label `maybe`"),
            ("[label]", "[texts]\na = \"{b}\"\nb = \"{a}\"\n[label]", "is made of a text that is made of others"),
            ("[label]", "[texts]\na = { fields = \"b\" }\n[label]", "unknown field `fields`"),
            ("[label]", "[choices]\nlist = \"c\"\n[label]", "the choices are those of the examples"),
        ] {
            let found = reason(&FILE.replace(from, to));
            assert!(found.contains(expected) && found.starts_with("pattern file x.toml: "), "{found}");
        }
        let number = PatternTask::parse("x.toml", FILE, Some(1), false).expect_err("one pattern").to_string();
        assert_eq!(number, "x.toml has no pattern 1, its patterns are 0 to 0");
        let unknown = PatternTask::open("superglue/bolq", None, false).expect_err("unknown").to_string();
        assert!(unknown.contains("`superglue/bolq`") && unknown.contains("glm-prep patterns"), "{unknown}");
        assert!(PatternTask::open("/no/such.toml", None, false).expect_err("missing").to_string().contains("/no/such.toml"));
    }

    #[test]
    fn words_of_several_tokens_need_a_multi_token_task() {
        let text = FILE.replace("bad", "unbelievably");
        let tokenizer = Tokenizer::load(None).expect("built in");
        let check =
            |multi| PatternTask::parse("x", &text, None, multi).expect("valid").check_tokens(&tokenizer).expect("tokens");
        let error = check(false).expect_err("several tokens").to_string();
        assert!(error.contains("`unbelievably` has ") && error.contains("--multi-token"), "{error}");
        assert!(check(true).is_ok());
    }
}
