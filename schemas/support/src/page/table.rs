//! Tables, bar tables, and tiles.

use maud::{Markup, PreEscaped, html};

use crate::page::number;

/// A key figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Name of the figure.
    pub name: String,
    /// Number with its unit.
    pub value: String,
    /// Short remark.
    pub note: String,
}

impl Tile {
    /// Creates a tile.
    #[must_use]
    pub fn new(name: &str, value: String, note: String) -> Self {
        Self { name: name.to_owned(), value, note }
    }
}

/// Renders tiles side by side.
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

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Left-aligned text.
    Text,
    /// Right-aligned numbers.
    Number,
}

/// Renders a table that scrolls if it is too wide. `name` is its accessible name.
#[must_use]
pub fn table(name: &str, columns: &[(&str, Column)], rows: &[Vec<Markup>]) -> Markup {
    let class = |index: usize| match columns.get(index) {
        Some((_, Column::Number)) => Some("number"),
        _ => None,
    };
    html! {
        div.scroll role="region" tabindex="0" aria-label=(name) {
            table {
                thead {
                    tr {
                        @for (index, (heading, _)) in columns.iter().enumerate() { th scope="col" class=[class(index)] { (heading) } }
                    }
                }
                tbody {
                    @for row in rows {
                        tr { @for (index, cell) in row.iter().enumerate() { td class=[class(index)] { (cell) } } }
                    }
                }
            }
        }
    }
}

/// Renders a table of names and counts with a bar for each count. Shares are relative to `of`.
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

/// Renders a bar of a length from 0 to 1. It is hidden from screen readers, as the number next to it has the same content.
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

/// Renders a list of names and values.
#[must_use]
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in facts { dt { (name) } dd { (value) } } } }
}

/// Renders a text as a cell.
#[must_use]
pub fn text(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}

/// Renders an empty cell.
#[must_use]
pub fn nothing() -> Markup {
    PreEscaped(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_escaped_and_numbers_are_right_aligned() {
        let text = table("T", &[("name", Column::Text), ("n", Column::Number)], &[vec![text("<b>"), text("3")]]).into_string();
        assert!(text.contains("<td>&lt;b&gt;</td><td class=\"number\">3</td>"), "{text}");
        let text = bars("B", ["reason", "records"], &[("a".to_owned(), 3), ("b".to_owned(), 1)], 8).into_string();
        assert!(text.contains("37.5 %") && text.contains("width=\"33.3\""), "{text}");
        assert!(bar(f64::NAN).into_string().contains("width=\"0.0\""));
    }
}
