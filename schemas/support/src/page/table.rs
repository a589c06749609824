//! Tables, tables with bars, and tiles with one number each.

use maud::{Markup, PreEscaped, html};

use crate::page::number;

/// A number that a reader looks for first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// What it is.
    pub name: String,
    /// The number with its unit.
    pub value: String,
    /// A few words on it.
    pub note: String,
}

impl Tile {
    /// A tile.
    #[must_use]
    pub fn new(name: &str, value: String, note: String) -> Self {
        Self { name: name.to_owned(), value, note }
    }
}

/// Tiles side by side.
#[must_use]
pub fn tiles(tiles: &[Tile]) -> Markup {
    html! {
        dl.tiles {
            @for Tile { name, value, note } in tiles {
                div.tile {
                    dt { (name) }
                    dd.value { (value) }
                    dd.note { (note) }
                }
            }
        }
    }
}

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Words, from the left.
    Text,
    /// Numbers, from the right.
    Number,
}

/// A table that scrolls inside its box where it is too wide. `name` is what it is called where it is read out.
#[must_use]
pub fn table(name: &str, columns: &[(&str, Column)], rows: &[Vec<Markup>]) -> Markup {
    let class = |place: usize| match columns.get(place) {
        Some((_, Column::Number)) => Some("number"),
        _ => None,
    };
    html! {
        div.scroll role="region" tabindex="0" aria-label=(name) {
            table {
                thead {
                    tr {
                        @for (place, (heading, _)) in columns.iter().enumerate() { th scope="col" class=[class(place)] { (heading) } }
                    }
                }
                tbody {
                    @for row in rows {
                        tr { @for (place, cell) in row.iter().enumerate() { td class=[class(place)] { (cell) } } }
                    }
                }
            }
        }
    }
}

/// A table of names and counts, with a bar for each count. `of` is the whole that shares are taken of.
#[must_use]
pub fn bars(name: &str, headings: [&str; 2], rows: &[(String, u64)], of: u64) -> Markup {
    let most = rows.iter().map(|row| row.1).max().unwrap_or(0).max(1);
    let rows: Vec<Vec<Markup>> = rows
        .iter()
        .map(|(label, count)| {
            vec![
                html! { bdi { (label) } },
                html! { (number::count(*count)) },
                html! { (number::percent(*count as f64 / of.max(1) as f64)) },
                bar(*count as f64 / most as f64),
            ]
        })
        .collect();
    let columns = [(headings[0], Column::Text), (headings[1], Column::Number), ("share", Column::Number), ("", Column::Text)];
    table(name, &columns, &rows)
}

/// A bar of a length from 0 to 1; the number beside it says the same.
#[must_use]
pub fn bar(length: f64) -> Markup {
    let length = if length.is_finite() { 100.0 * length.clamp(0.0, 1.0) } else { 0.0 };
    html! {
        svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.track x="0" y="0" width="100" height="10" {}
            rect.bar x="0" y="0" width=(format!("{length:.1}")) height="10" {}
        }
    }
}

/// Names and what they stand for, one below the other.
#[must_use]
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in facts { dt { (name) } dd { (value) } } } }
}

/// A text as a cell.
#[must_use]
pub fn text(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}

/// Nothing.
#[must_use]
pub fn nothing() -> Markup {
    PreEscaped(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_escaped_and_numbers_stand_right() {
        let text = table("T", &[("name", Column::Text), ("n", Column::Number)], &[vec![text("<b>"), text("3")]]).into_string();
        assert!(text.contains("<td>&lt;b&gt;</td><td class=\"number\">3</td>"), "{text}");
        let text = bars("B", ["reason", "records"], &[("a".to_owned(), 3), ("b".to_owned(), 1)], 8).into_string();
        assert!(text.contains("37.5 %") && text.contains("width=\"33.3\""), "{text}");
        assert!(bar(f64::NAN).into_string().contains("width=\"0.0\""));
    }
}
