//! Human-readable output of ranked choices.

use std::io::{self, Write};

use glm_support::command::paint::{Glyph, HARD_SPACE, Kind, Screen, Style, glyphs, paint, wrap};

use super::Ranking;

/// Columns before the text of a choice: probability and score.
const INDENT: usize = 24;

impl Ranking {
    /// Prints the query with the best choice filled in, and all choices, best first.
    ///
    /// # Errors
    /// Returns errors of writing to `out`.
    pub fn print(&self, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
        let mut print = |text: &[Glyph], head: &str, indent: usize| -> io::Result<()> {
            for (number, line) in wrap(text, screen.width.saturating_sub(indent)).iter().enumerate() {
                let head = if number == 0 { head } else { "" };
                writeln!(out, "{}", format!("{head:indent$}{}", paint(line, screen.colour)).trim_end())?;
            }
            Ok(())
        };
        print(&self.filled(screen.colour), "", 0)?;
        if self.read_tokens < self.passage_tokens {
            let note = format!(
                "The passage has {} tokens; only the first {} fit with the longest choice and are read.",
                self.passage_tokens, self.read_tokens
            );
            print(&glyphs(&note, Style::of(Kind::Note)).collect::<Vec<_>>(), "", 0)?;
        }
        print(&[], "", 0)?;
        let note = glyphs("probability     score   choice", Style::of(Kind::Note));
        print(&note.map(|(c, style)| (if c == ' ' { HARD_SPACE } else { c }, style)).collect::<Vec<_>>(), "", 0)?;
        for (place, choice) in self.best_first().into_iter().enumerate() {
            let kind = if place == 0 { Kind::Answer } else { Kind::Plain };
            let head = format!("{:9.2} % {:9.3}   ", 100.0 * choice.probability, choice.score);
            print(&glyphs(&choice.text, Style::of(kind)).collect::<Vec<_>>(), &head, INDENT)?;
        }
        Ok(())
    }

    /// Returns the query with the best choice in place of the blank, marked by color or by brackets.
    fn filled(&self, colour: bool) -> Vec<Glyph> {
        let (open, close) = if colour { ("", "") } else { ("[", "]") };
        let best = &self.predicted_text;
        let plain = |text: &'_ str| glyphs(text, Style::default()).collect::<Vec<_>>();
        let mut text = plain(&self.query[..self.blank.start]);
        text.extend(glyphs(&format!("{open}{best}{close}"), Style::of(Kind::Answer)));
        text.extend(plain(&self.query[self.blank.end..]));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::RankedChoice;
    use super::*;

    fn printed(ranking: &Ranking, colour: bool) -> String {
        let mut out = Vec::new();
        ranking.print(&Screen { colour, width: 80 }, &mut out).expect("in memory");
        String::from_utf8(out).expect("text")
    }

    fn ranking() -> Ranking {
        let choice = |choice_index, text: &str, score, probability| RankedChoice {
            text: text.to_owned(),
            choice_index,
            score,
            probability,
        };
        Ranking {
            id: None,
            query: "It got stuck in the [BLANK]!".to_owned(),
            blank: 20..27,
            filled: "It got stuck in the tree!".to_owned(),
            predicted: 4,
            predicted_text: "tree".to_owned(),
            passage_tokens: 600,
            read_tokens: 500,
            choices: vec![choice(1, &"pond ".repeat(30), -1234.0625, 0.1), choice(4, "tree", -1.5, 0.9)],
        }
    }

    #[test]
    fn the_best_choice_is_filled_in_and_listed_first() {
        let text = printed(&ranking(), false);
        assert!(text.starts_with("It got stuck in the [tree]!\nThe passage has 600 tokens"), "{text}");
        assert!(
            text.contains("\nprobability     score   choice\n    90.00 %    -1.500   tree\n    10.00 % -1234.062   pond"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(printed(&ranking(), true).starts_with("It got stuck in the \x1b[1;32mtree\x1b[0m!\n"));
    }
}
