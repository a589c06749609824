//! Output of generated texts in the order of the requests, whatever the order in which they are done.

use std::collections::BTreeMap;
use std::io::{self, Write};

use glm_schemas::vocab::TokenId;
use glm_support::command::paint::{Kind, Style, glyphs, paint};
use glm_text::tokenize::Tokenizer;

use super::filled::{Filled, Part};
use super::input::{Asked, Text};
use super::{Generated, Output, Piece, finish};
use crate::checkpoint::locate::Located;
use crate::generate::{Event, Hypothesis};

/// Format of the output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format<'a> {
    /// Texts with their blanks filled, one after the other.
    Text {
        /// True to show every token at once.
        flush: bool,
        /// True to color generated text.
        colour: bool,
    },
    /// A JSON line per text.
    Json {
        /// Weights.
        weights: &'a Located,
    },
}

/// Numbers of the results of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Results {
    /// Number of requests, each for one sample.
    pub(super) samples: usize,
    /// Number of results to print.
    pub(super) outputs: usize,
}

/// Events of a request whose turn has not come.
#[derive(Debug, Default)]
struct Waiting {
    tokens: Vec<(usize, TokenId)>,
    pieces: Option<Vec<Vec<Hypothesis>>>,
}

/// Writer of results. The requests of a text, one per sample, come one after the other.
pub(super) struct Printer<'a> {
    tokenizer: &'a Tokenizer,
    asked: &'a [Asked],
    texts: &'a [Text],
    results: &'a [Results],
    format: Format<'a>,
    out: &'a mut dyn Write,
    waiting: BTreeMap<usize, Waiting>,
    /// Request whose turn it is.
    current: usize,
    /// Text of that request, and the number of the text's requests before it.
    text: usize,
    sample: usize,
    filled: Option<Filled<'a>>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        asked: &'a [Asked],
        texts: &'a [Text],
        results: &'a [Results],
        format: Format<'a>,
        out: &'a mut dyn Write,
    ) -> Self {
        let waiting = BTreeMap::new();
        Self { tokenizer, asked, texts, results, format, out, waiting, current: 0, text: 0, sample: 0, filled: None }
    }

    /// Moves on by some requests of the current text.
    fn advance(&mut self, requests: usize) {
        self.current += requests;
        self.sample += requests;
        if self.sample >= self.results[self.text].samples {
            (self.text, self.sample) = (self.text + 1, 0);
        }
    }

    /// Prints what an event allows to print.
    pub(super) fn receive(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Token { request, blank, token } => match self.format {
                Format::Json { .. } => Ok(()),
                Format::Text { .. } if request == self.current => self.token(blank, token),
                Format::Text { .. } => {
                    self.waiting.entry(request).or_default().tokens.push((blank, token));
                    Ok(())
                }
            },
            Event::Done { request, pieces } => {
                self.waiting.entry(request).or_default().pieces = Some(pieces);
                match self.format {
                    Format::Json { weights } => self.json_lines(weights),
                    Format::Text { .. } => self.texts(),
                }
            }
        }
    }

    /// Prints the texts that are done, from the current one on, and what is known of the next.
    fn texts(&mut self) -> io::Result<()> {
        while let Some(Waiting { tokens, pieces }) = self.waiting.remove(&self.current) {
            for (blank, token) in tokens {
                self.token(blank, token)?;
            }
            let Some(pieces) = pieces else { return Ok(()) };
            self.end()?;
            let Results { samples, outputs } = self.results[self.text];
            if samples == 1 {
                // Other pieces for the last blank.
                let others = pieces.last().map(|last| last.iter().skip(1).take(outputs - 1)).into_iter().flatten();
                for other in others {
                    for (blank, piece) in pieces.iter().enumerate() {
                        let is_last = blank + 1 == pieces.len();
                        let chosen = if is_last { Some(other) } else { piece.first() };
                        for &token in chosen.map(|chosen| &chosen.tokens[..]).unwrap_or_default() {
                            self.token(blank, token)?;
                        }
                    }
                    self.end()?;
                }
            }
            self.advance(1);
        }
        Ok(())
    }

    fn token(&mut self, blank: usize, token: TokenId) -> io::Result<()> {
        let (tokenizer, parts) = (self.tokenizer, &self.texts[self.text].parts);
        let added = self.filled.get_or_insert_with(|| Filled::new(tokenizer, parts)).token(blank, token);
        self.write(&added)
    }

    /// Ends the text.
    fn end(&mut self) -> io::Result<()> {
        let parts = &self.texts[self.text].parts;
        let rest = self.filled.take().unwrap_or_else(|| Filled::new(self.tokenizer, parts)).end();
        self.write(&rest)?;
        writeln!(self.out)?;
        self.out.flush()
    }

    fn write(&mut self, parts: &[Part]) -> io::Result<()> {
        let Format::Text { flush, colour, .. } = self.format else { return Ok(()) };
        for Part { text, is_generated } in parts {
            let kind = if *is_generated { Kind::Answer } else { Kind::Plain };
            let text: Vec<_> = glyphs(text, Style::of(kind)).collect();
            write!(self.out, "{}", paint(&text, colour))?;
        }
        if flush { self.out.flush() } else { Ok(()) }
    }

    /// Prints the lines of texts all of whose requests are done.
    fn json_lines(&mut self, weights: &Located) -> io::Result<()> {
        while let Some(&Results { samples, outputs }) = self.results.get(self.text) {
            let requests = self.current..self.current + samples;
            let is_done = |request| self.waiting.get(&request).is_some_and(|waiting| waiting.pieces.is_some());
            if !requests.clone().all(is_done) {
                return Ok(());
            }
            let number = self.text;
            let done: Vec<_> =
                requests.filter_map(|request| self.waiting.remove(&request).and_then(|waiting| waiting.pieces)).collect();
            let mut found = Vec::new();
            for pieces in &done {
                let ranks = if samples > 1 { 1 } else { outputs.min(pieces.last().map_or(0, Vec::len)) };
                found.extend((0..ranks).map(|rank| self.output(number, pieces, rank)));
            }
            let line =
                Generated { id: self.asked[number].id.as_ref(), text: &self.texts[number].text, outputs: found, weights };
            serde_json::to_writer(&mut *self.out, &line)?;
            writeln!(self.out)?;
            self.out.flush()?;
            self.advance(samples);
        }
        Ok(())
    }

    /// A text with the piece of some rank for its last blank, and the best pieces for the others.
    fn output<'h>(&self, number: usize, pieces: &'h [Vec<Hypothesis>], rank: usize) -> Output<'h> {
        let Text { parts, context, .. } = &self.texts[number];
        let mut text = parts.first().cloned().unwrap_or_default();
        let mut chosen = Vec::new();
        for (blank, hypotheses) in pieces.iter().enumerate() {
            let rank = if blank + 1 == pieces.len() { rank } else { 0 };
            let Some(hypothesis) = hypotheses.get(rank) else { continue };
            let piece = Piece {
                position: context.blanks[blank],
                text: self.tokenizer.decode(&hypothesis.tokens),
                ids: &hypothesis.tokens,
                log_probs: &hypothesis.log_probs,
                end_log_prob: hypothesis.end.map(|end| end.log_prob),
                score: hypothesis.score,
                finish: finish(hypothesis, self.tokenizer.special().eop),
            };
            text += &piece.text;
            text += parts.get(blank + 1).map_or("", String::as_str);
            chosen.push(piece);
        }
        Output { text, score: chosen.iter().map(|piece| piece.score).sum(), pieces: chosen }
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::Reader;
    use super::*;

    /// Prints events of texts and returns what was written.
    fn printed(texts: &[&str], results: &[Results], format: Format<'_>, events: Vec<Event>) -> String {
        let tokenizer = Tokenizer::bert_uncased().expect("built in");
        let asked: Vec<_> = texts.iter().map(|text| Asked::new("text".to_owned(), text)).collect();
        let mut reader = Reader::new(&tokenizer, false, 513);
        let texts: Vec<_> = asked.iter().map(|asked| reader.read(asked).expect("text")).collect();
        let mut out = Vec::new();
        let mut printer = Printer::new(&tokenizer, &asked, &texts, results, format, &mut out);
        events.into_iter().for_each(|event| printer.receive(event).expect("in memory"));
        String::from_utf8(out).expect("text")
    }

    fn piece(tokens: &[TokenId]) -> Hypothesis {
        Hypothesis { tokens: tokens.to_vec(), log_probs: vec![-0.5; tokens.len()], end: None, score: -1.0 }
    }

    const TEXT: Format<'static> = Format::Text { flush: true, colour: false };
    const ONE: Results = Results { samples: 1, outputs: 1 };

    #[test]
    fn texts_come_in_the_order_of_requests() {
        let token = |request, blank, token| Event::Token { request, blank, token };
        let done = |request, pieces: &[&[TokenId]]| Event::Done {
            request,
            pieces: pieces.iter().map(|&tokens| vec![piece(tokens)]).collect(),
        };
        let events = vec![
            token(1, 0, 2061),
            token(0, 0, 2054),
            done(1, &[&[2061]]),
            token(0, 1, 2061),
            token(2, 0, 2061),
            done(0, &[&[2054], &[2061]]),
            token(2, 0, 2061),
            done(2, &[&[2061, 2061]]),
        ];
        let text = printed(&["a [MASK] b [MASK]", "c [MASK].", "d"], &[ONE; 3], TEXT, events);
        assert_eq!(text, "a what b so\nc so.\nd so so\n");
    }

    #[test]
    fn further_hypotheses_are_lines_of_their_own() {
        let events = vec![
            Event::Token { request: 0, blank: 0, token: 2054 },
            Event::Token { request: 0, blank: 1, token: 2061 },
            Event::Done {
                request: 0,
                pieces: vec![vec![piece(&[2054]), piece(&[2061])], vec![piece(&[2061]), piece(&[2054])]],
            },
        ];
        let format = Format::Text { flush: false, colour: true };
        let text = printed(&["[MASK]-[MASK]\u{7}"], &[Results { outputs: 2, ..ONE }], format, events);
        let what = "\x1b[1;32mwhat\x1b[0m";
        assert_eq!(text, format!("{what}-\x1b[1;32mso\x1b[0m\u{fffd}\n{what}-{what}\u{fffd}\n"));
    }

    #[test]
    fn texts_have_numbers_of_results_of_their_own() {
        let done = |request, token| Event::Done { request, pieces: vec![vec![piece(&[token]), piece(&[2000])]] };
        let token = |request, token| Event::Token { request, blank: 0, token };
        // One result; two samples; two hypotheses; one result.
        let results = [ONE, Results { samples: 2, outputs: 2 }, Results { samples: 1, outputs: 2 }, ONE];
        let tokens = [2054, 2061, 2009, 2054, 2061];
        let order = [4, 2, 0, 1, 3];
        let events = order.iter().flat_map(|&request| [token(request, tokens[request]), done(request, tokens[request])]);
        let text = printed(&["a", "b", "c", "d"], &results, TEXT, events.collect());
        assert_eq!(text, "a what\nb so\nb it\nc what\nc to\nd so\n");
    }
}
