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

/// Renders the main figures side by side, and the minor ones smaller below.
#[must_use]
pub fn tiles(main: &[Tile], minor: &[Tile]) -> Markup {
    html! {
        (row_of_tiles("tiles", main))
        @if !minor.is_empty() { (row_of_tiles("tiles minor", minor)) }
    }
}

fn row_of_tiles(class: &str, tiles: &[Tile]) -> Markup {
    html! {
        dl class=(class) {
            @for Tile { name, value, note } in tiles {
                div.tile {
                    dt { (name) }
                    dd.value { (value) }
                    @if !note.is_empty() { dd.note { (note) } }
                }
            }
        }
    }
}

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Left-aligned headings of the rows.
    Heading,
    /// Left-aligned text.
    Text,
    /// Right-aligned numbers.
    Number,
}

/// Renders a table that scrolls if it is too wide; shadows show where it continues. `name` is its accessible name.
#[must_use]
pub fn table(name: &str, columns: &[(&str, Column)], rows: &[Vec<Markup>]) -> Markup {
    let column = |index: usize| columns.get(index).map(|(_, column)| *column);
    let class = |index: usize| (column(index) == Some(Column::Number)).then_some("number");
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
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if column(index) == Some(Column::Heading) { th scope="row" { (cell) } } @else {
                                    td class=[class(index)] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders a table of names and counts. The share of `of` is a number and a bar, whose track is the whole.
#[must_use]
pub fn bars(name: &str, headings: [&str; 2], rows: &[(String, u64)], of: u64) -> Markup {
    let rows: Vec<Vec<Markup>> = rows
        .iter()
        .map(|(label, count)| {
            let share = *count as f64 / of.max(1) as f64;
            vec![html! { bdi { (label) } }, html! { (number::count(*count)) }, html! { (number::percent(share)) }, bar(share)]
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
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// Renders content that is folded until it is asked for.
#[must_use]
pub fn folded(summary: impl AsRef<str>, content: &Markup) -> Markup {
    html! { details.folded { summary { (summary.as_ref()) } (content) } }
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
        // The bars are as long as the shares next to them.
        assert!(text.contains("37.5 %") && text.contains("width=\"37.5\"") && text.contains("width=\"12.5\""), "{text}");
        let text = table("T", &[("", Column::Heading), ("n", Column::Number)], &[vec![super::text("rows"), super::text("3")]])
            .into_string();
        assert!(text.contains("<th scope=\"row\">rows</th><td class=\"number\">3</td>"), "{text}");
        assert!(bar(f64::NAN).into_string().contains("width=\"0.0\""));
    }

    #[test]
    fn tiles_have_two_weights() {
        let tile = |name: &str| Tile::new(name, "1".to_owned(), String::new());
        let text = tiles(&[tile("accuracy")], &[tile("F1"), tile("memory")]).into_string();
        let [main, minor] = ["<dl class=\"tiles\">", "<dl class=\"tiles minor\">"].map(|list| text.find(list).expect("a list"));
        assert!(main < text.find("accuracy").expect("a tile") && minor < text.find("F1").expect("a tile"), "{text}");
        assert!(!tiles(&[tile("a")], &[]).into_string().contains("minor"));
    }
}
