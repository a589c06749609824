//! Children's Book Test: blocks of 21 numbered lines, separated by blank lines.
//!
//! The sentences `1 …` to `20 …` are the passage. `21 sentence with XXXXX<tab>answer<tab><tab>choice|choice|…` is the question. The
//! answer is missing in unlabelled data.

use glm_text::question::{Choices, QuestionTextError, find_blank};
use glm_text::standard::standardise;

use super::words::mentions;
use crate::source::error::{QuestionError, RecordError};
use crate::source::format::{ClozeFormat, Content, Format, Framing};
use crate::source::head::Head;
use crate::source::passage::{Passage, Question};

/// Marker of the blank.
const BLANK: &str = "XXXXX";

/// Lines per block, including the question.
const LINES: usize = 21;

/// The Children's Book Test.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cbt;

impl Format for Cbt {
    fn name(&self) -> &'static str {
        "cbt"
    }

    fn about(&self) -> &'static str {
        "Children's Book Test, blocks of 21 lines"
    }

    fn signs(&self) -> &'static str {
        "blocks of 21 numbered lines"
    }

    fn framing(&self) -> Framing {
        Framing::Blocks
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        let Head::Lines(lines) = head else { return false };
        lines.get(..LINES).is_some_and(|block| {
            let numbered = block.iter().zip(1..).all(|(line, number)| without_number(line, number).is_some());
            numbered && block.last().is_some_and(|question| question.contains(BLANK) && question.contains('\t'))
        })
    }

    fn content(&self) -> Content<'_> {
        Content::Questions(self)
    }
}

impl ClozeFormat for Cbt {
    fn blank(&self) -> &'static str {
        BLANK
    }

    fn asks_once(&self) -> bool {
        true
    }

    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError> {
        let mut sentences = record.trim_matches(['\n', '\r']).lines().enumerate().map(|(index, line)| {
            let number = index + 1;
            without_number(line, number)
                .ok_or_else(|| syntax(format!("line {number} of the block does not begin with `{number} `; {EXPECTED}")))
        });
        let mut text = String::with_capacity(record.len());
        for sentence in sentences.by_ref().take(LINES - 1) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(sentence?.trim_end());
        }
        let question = sentences.next().ok_or_else(|| syntax(format!("the block ends before line {LINES}; {EXPECTED}")))??;
        if sentences.next().is_some() {
            return Err(syntax(format!("the block has more than {LINES} lines; {EXPECTED}")));
        }
        let text = standardise(&text);
        let (question, choices) = parse_question(question, labelled)?;
        Ok(vec![Passage {
            id: None,
            source: String::new(),
            mentions: mentions(&text, &choices.candidates)?,
            text,
            choice_indices: choices.first_given(),
            candidates: choices.candidates,
            questions: vec![Ok(question)],
        }])
    }
}

/// Expected form of a block, for messages.
const EXPECTED: &str =
    "expected 20 numbered sentences, then `21 query`, a tab, the answer, two tabs and the choices separated by `|`";

fn syntax(message: String) -> RecordError {
    RecordError::Syntax { format: Cbt.name(), message }
}

/// Returns the line without its number; `None` if it does not begin with `number`.
fn without_number(line: &str, number: usize) -> Option<&str> {
    let rest = line.trim_start().strip_prefix(number.to_string().as_str())?;
    // The number of an empty sentence is not followed by a space.
    if rest.is_empty() || rest.starts_with(char::is_whitespace) { Some(rest.trim_start()) } else { None }
}

/// Parses the last line of a block into the question and its choices.
fn parse_question(line: &str, labelled: bool) -> Result<(Question, Choices), RecordError> {
    let mut fields = line.split('\t');
    let query = fields.next().unwrap_or_default();
    let Some(choices) = fields.next_back() else {
        return Err(syntax(format!("line {LINES} of the block has no tab; {EXPECTED}")));
    };
    let answer = standardise(fields.next().unwrap_or_default().trim());

    let text = standardise(query.trim());
    let blank = find_blank(&text, BLANK)?;
    if choices.trim().is_empty() {
        return Err(QuestionTextError::NoChoices.into());
    }
    let choices = Choices::new(&choices.split('|').collect::<Vec<_>>())?;
    let answers = match choices.candidates.binary_search(&answer) {
        _ if !labelled => Vec::new(),
        Ok(index) => vec![index],
        Err(_) if answer.is_empty() => return Err(QuestionError::NoAnswers.into()),
        Err(_) => {
            let (answer, choices) = (format!("`{answer}`"), choices.given());
            let expected = "one of the words after the last tab";
            return Err(QuestionError::AnswerNotAChoice { answer, choices, expected }.into());
        }
    };
    Ok((Question { id: None, name: None, text, blank, answers }, choices))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use glm_text::standard::CharOffsets;

    fn block(question: &str) -> String {
        let sentences = (1..LINES).map(|number| format!("{number} The fox met hare {number} .\n"));
        format!("{}21 {question}\n", sentences.collect::<String>())
    }

    const QUESTION: &str = "`` Come in , '' said the XXXXX .\tfox\t\tbear|fox|hare|owl|Bär|cat|mole|toad|wolf|fox";

    fn parse(block: &str, labelled: bool) -> Passage {
        Cbt.parse(block, labelled).expect("a block").remove(0)
    }

    #[test]
    fn a_block_is_a_passage_with_one_question() {
        let passage = parse(&block(QUESTION), true);
        assert!(
            passage.text.starts_with("The fox met hare 1 .\nThe fox met hare 2 .\n") && passage.text.ends_with("hare 20 .")
        );
        assert_eq!(passage.candidates, ["Bär", "bear", "cat", "fox", "hare", "mole", "owl", "toad", "wolf"]);
        let question = passage.questions[0].clone().expect("good");
        assert_eq!(question.text, "`` Come in , '' said the XXXXX .");
        assert_eq!((&question.text[question.blank.clone()], question.answers.as_slice()), ("XXXXX", &[3][..]));
        assert_eq!((passage.mentions.len(), passage.id, question.id), (40, None, None));
        let offsets = CharOffsets::new(&passage.text);
        assert_eq!(
            passage.mentions[..2].iter().map(|&m| offsets.slice(m).expect("in range")).collect::<Vec<_>>(),
            ["fox", "hare"]
        );
    }

    #[test]
    fn crlf_and_missing_answers_are_accepted() {
        assert_eq!(parse(&block(QUESTION).replace('\n', "\r\n"), true), parse(&block(QUESTION), true));
        for question in [QUESTION.replace("\tfox\t", "\t\t"), QUESTION.replace("\tfox\t\t", "\t")] {
            assert!(parse(&block(&question), false).questions[0].clone().expect("good").answers.is_empty());
            assert_eq!(Cbt.parse(&block(&question), true), Err(QuestionError::NoAnswers.into()));
        }
    }

    #[test]
    fn invalid_blocks_are_errors() {
        for (block, message) in [
            (String::new(), "not a record of format `cbt`: the block ends before line 21; expected 20 numbered sentences"),
            ("1 a\n2 b".into(), "not a record of format `cbt`: the block ends before line 21"),
            (
                block(QUESTION).replace("\n7 ", "\n8 "),
                "not a record of format `cbt`: line 7 of the block does not begin with `7 `",
            ),
            (format!("{}22 b", block(QUESTION)), "not a record of format `cbt`: the block has more than 21 lines"),
            (block("no tab"), "not a record of format `cbt`: line 21 of the block has no tab"),
            (block("XXXXX XXXXX\ta\t\ta|b"), "the text holds `XXXXX` 2 times, it must hold it once"),
            (block("XXXXX\ta\t\t"), "no choices are given, so there is nothing to choose from"),
            (block("XXXXX\ta\t\t|"), "choice 0 is empty; every choice must hold some text"),
            (
                block("XXXXX\tc\t\ta|b"),
                "the answer `c` is not one of the 2 choices; expected one of the words after the last tab",
            ),
        ] {
            let error = Cbt.parse(&block, true).expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}\n{message}");
        }
    }

    proptest! {
        #[test]
        fn it_never_panics(text in "(\\PC|\t|\n|XXXXX|\\|){0,30}", cut in 0_usize..700, labelled: bool) {
            let _ = Cbt.parse(&text, labelled);
            let good = block(QUESTION);
            let at = (0..=cut.min(good.len())).rev().find(|&at| good.is_char_boundary(at)).unwrap_or(0);
            prop_assert!(Cbt.parse(&good[..at], labelled).is_err() || good[..at].contains('\t'));
            let _ = Cbt.parse(&format!("{}{text}{}", &good[..at], &good[at..]), labelled);
            for passage in Cbt.parse(&block(&text), labelled).unwrap_or_default() {
                let question = passage.questions[0].clone().expect("good");
                prop_assert_eq!(&question.text[question.blank], BLANK);
            }
        }
    }
}
