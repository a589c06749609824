//! Rendering of a cloze question: passage with marked mentions, query with its blank, choices.

use std::ops::Range;

use glm_schemas::cloze::text::TextView;
use glm_schemas::cloze::{CharSpan, ClozeView};
use maud::{Markup, html};

use crate::page::card::Card;
use crate::page::number;
use crate::page::spans::{Kind, Span, marked};
use crate::page::table::bar;

/// One choice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// Text of the choice.
    pub text: String,
    /// Position among the choices of the raw data, which a shard may hold in another order.
    pub index: usize,
    /// True if it is a correct answer.
    pub right: bool,
    /// Score of a model: a sum of log probabilities.
    pub score: Option<f64>,
}

/// A question to render. Ranges count code points.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Question {
    /// Example id.
    pub id: String,
    /// Short remark below the id.
    pub about: String,
    /// Passage.
    pub passage: String,
    /// Mentions in the passage, with the name of the entity.
    pub mentions: Vec<(Range<usize>, String)>,
    /// Query.
    pub query: String,
    /// Blank in the query.
    pub blank: Option<Range<usize>>,
    /// Choices.
    pub choices: Vec<Choice>,
    /// Index of the choice that a model selected.
    pub chosen: Option<usize>,
}

impl Question {
    /// Reads the question of a shard's row, without scores.
    ///
    /// # Panics
    /// Panics if `row` is out of bounds.
    #[must_use]
    pub fn of_row(view: &ClozeView<'_>, text: &TextView<'_>, row: usize) -> Self {
        let range = |span: CharSpan| span.start..span.end;
        let choices = view.choices(row);
        // The query of a pattern is the whole context, its passage included.
        let is_pattern = view.choices(row).any(|choice| choice.name.is_some());
        Self {
            id: view.example_id(row).to_owned(),
            about: format!("source {}, {} context tokens", text.source(row), number::count(view.context_tokens(row) as u64)),
            passage: if is_pattern { String::new() } else { text.passage(row).to_owned() },
            mentions: text.mentions(row).map(|mention| (range(mention.chars), mention.text.to_owned())).collect(),
            query: text.query(row).to_owned(),
            blank: text.blank(row).map(range),
            choices: choices
                .enumerate()
                .map(|(at, choice)| Choice {
                    text: choice.text.unwrap_or_default().to_owned(),
                    index: choice.index.unwrap_or(at),
                    right: choice.correct,
                    score: None,
                })
                .collect(),
            chosen: None,
        }
    }

    /// Renders the question as a card that is `open` or folded. `prefix` distinguishes the anchors of several lists of questions.
    #[must_use]
    pub fn render(&self, prefix: &str, open: bool) -> Markup {
        let text = html! {
            @if !self.passage.is_empty() {
                div.passage dir="auto" tabindex="0" role="region" aria-label={ "Passage of " (self.id) } {
                    @let spans = self.passage_spans();
                    (marked(&self.passage, &spans))
                }
            }
            p.query dir="auto" {
                @let blank: Vec<Span> =
                    self.blank.iter().map(|range| Span { range: range.clone(), kind: Kind::Blank }).collect();
                (marked(&self.query, &blank))
            }
        };
        Card { prefix, id: &self.id, about: &self.about, open }.render(&text, Some(&self.choice_list()))
    }

    fn passage_spans(&self) -> Vec<Span> {
        let chosen = self.chosen.and_then(|chosen| self.choices.get(chosen)).filter(|choice| !choice.right);
        let kind = |name: &str| match name {
            name if self.choices.iter().any(|choice| choice.right && choice.text == name) => Kind::Right,
            name if chosen.is_some_and(|choice| choice.text == name) => Kind::Wrong,
            _ => Kind::Mention,
        };
        self.mentions.iter().map(|(range, name)| Span { range: range.clone(), kind: kind(name) }).collect()
    }

    /// Renders the choices in the order of the raw data or, with scores, best first with their probabilities among the choices.
    fn choice_list(&self) -> Markup {
        let scored = !self.choices.is_empty() && self.choices.iter().all(|choice| choice.score.is_some());
        let score = |choice: &Choice| choice.score.filter(|score| score.is_finite()).unwrap_or(f64::NEG_INFINITY);
        let best = self.choices.iter().map(score).fold(f64::NEG_INFINITY, f64::max);
        let weight = |choice: &Choice| if best.is_finite() { (score(choice) - best).exp() } else { 0.0 };
        let total: f64 = self.choices.iter().map(weight).sum();
        let mut order: Vec<usize> = (0..self.choices.len()).collect();
        match scored {
            true => order.sort_by(|&a, &b| score(&self.choices[b]).total_cmp(&score(&self.choices[a]))),
            false => order.sort_by_key(|&choice| self.choices[choice].index),
        }
        html! {
            table.choices aria-label={ "Choices of " (self.id) } {
                thead {
                    tr {
                        th scope="col" { "choice" }
                        @if scored {
                            th scope="col" class="number" { "probability" }
                            th.share scope="col" { span.hidden { "as a bar" } }
                            th scope="col" class="number" { "score" }
                        }
                    }
                }
                tbody {
                    @for index in order {
                        @let choice = &self.choices[index];
                        @let chosen = self.chosen == Some(index);
                        @let class = if choice.right { Some("right") } else if chosen { Some("wrong") } else { None };
                        tr class=[class] {
                            td {
                                bdi { (choice.text) }
                                @match (choice.right, chosen) {
                                    (true, true) => { " " span.verdict { "✓ right, chosen" } },
                                    (true, false) => { " " span.verdict { "✓ right" } },
                                    (false, true) => { " " span.verdict { "✗ chosen" } },
                                    (false, false) => {},
                                }
                            }
                            @if scored {
                                @let share = if total > 0.0 { weight(choice) / total } else { f64::NAN };
                                td.number { (number::percent(share)) }
                                td.share { (bar(share)) }
                                td.number { @match choice.score { Some(score) => (format!("{score:.2}")), None => (number::NONE) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders the legend of the colours; `scored` adds the choice of a model.
#[must_use]
pub fn legend(scored: bool) -> Markup {
    html! {
        p.marks {
            mark.mention { "a mention" } " "
            mark.right { "the right answer" } " "
            @if scored { mark.wrong { "what the model chose instead" } " " }
            mark.blank { "\u{a0}\u{a0}?\u{a0}\u{a0}" } " the blank"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let choice = |text: &str, right, score| Choice { text: text.to_owned(), index: 0, right, score };
        Question {
            id: "q<1>".to_owned(),
            about: "about it".to_owned(),
            passage: "Ann met Bob in Rome".to_owned(),
            mentions: vec![(0..3, "Ann".to_owned()), (8..11, "Bob".to_owned()), (15..19, "Rome".to_owned())],
            query: "@placeholder left".to_owned(),
            blank: Some(0..12),
            choices: vec![choice("Ann", true, Some(-3.0)), choice("Bob", false, Some(-1.0)), choice("Rome", false, Some(-9.0))],
            chosen: Some(1),
        }
    }

    #[test]
    fn correct_and_chosen_answers_are_marked() {
        let text = question().render("q", true).into_string();
        let passage =
            "<mark class=\"right\">Ann</mark> met <mark class=\"wrong\">Bob</mark> in <mark class=\"mention\">Rome</mark>";
        assert!(text.contains(passage) && text.contains("q&lt;1&gt;"), "{text}");
        // Best first: exp(-1) / (exp(-1) + exp(-3) + exp(-9)).
        let [bob, ann] = ["<bdi>Bob</bdi>", "<bdi>Ann</bdi>"].map(|name| text.find(name).expect("choice"));
        assert!(bob < ann && text.contains("88.1 %") && text.contains("✗ chosen") && text.contains("✓ right"), "{text}");
    }

    #[test]
    fn without_scores_the_order_is_that_of_the_raw_data() {
        let mut question = question();
        question.chosen = None;
        for (index, choice) in [2, 0, 1].into_iter().zip(&mut question.choices) {
            (choice.index, choice.score) = (index, None);
        }
        let text = question.render("q", true).into_string();
        let table = text.split("<tbody>").nth(1).expect("a table");
        let [ann, bob, rome] = ["Ann", "Bob", "Rome"].map(|name| table.find(name).expect("a choice"));
        assert!(bob < rome && rome < ann, "{table}");
    }

    #[test]
    fn without_scores_there_are_no_probabilities() {
        let mut question = question();
        question.chosen = None;
        question.choices.iter_mut().for_each(|choice| choice.score = None);
        let text = question.render("q", true).into_string();
        assert!(!text.contains("probability") && !text.contains("chosen"), "{text}");
        question.choices.iter_mut().for_each(|choice| choice.score = Some(f64::NAN));
        assert!(question.render("q", true).into_string().contains(number::NONE));
    }
}
