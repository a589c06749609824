//! HTML document: title, sections, style and script.

use std::path::Path;

use crate::files::output::{Output, OutputError};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("hover.js");
/// Forbids loading anything; the empty icon stops browsers from requesting one.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// A page with a title, a lead and sections.
#[derive(Debug)]
pub struct Document {
    title: String,
    lead: Markup,
    sections: Vec<(String, String, Markup)>,
}

impl Document {
    /// Creates a page without sections. `lead` is shown below the title.
    #[must_use]
    pub fn new(title: impl Into<String>, lead: Markup) -> Self {
        Self { title: title.into(), lead, sections: Vec::new() }
    }

    /// Adds a section; `id` is its anchor.
    pub fn section(&mut self, id: &str, heading: &str, content: Markup) {
        self.sections.push((id.to_owned(), heading.to_owned(), content));
    }

    /// Renders the page.
    #[must_use]
    pub fn render(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) }
                    link rel="icon" href="data:,";
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (self.title) }
                        div.lead { (self.lead) }
                        @if self.sections.len() > 1 {
                            nav aria-label="Sections" {
                                @for (id, heading, _) in &self.sections { a href={ "#" (id) } { (heading) } " " }
                            }
                        }
                    }
                    main {
                        @for (id, heading, content) in &self.sections {
                            section id=(id) aria-labelledby={ (id) "-heading" } {
                                h2 id={ (id) "-heading" } { (heading) }
                                (content)
                            }
                        }
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    /// Writes the page to the destination `path`, see [`crate::files::output`].
    ///
    /// # Errors
    /// [`OutputError`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), OutputError> {
        Output::open(path)?.write_all(self.render().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_self_contained_and_escaped() {
        let mut page = Document::new("a < b & \"c\"", html! { p { ("</script>") } });
        page.section("one", "<One>", html! { p { "text" } });
        page.section("two", "Two", html! {});
        let text = page.render();
        assert!(text.starts_with("<!DOCTYPE html>"));
        assert!(text.contains("<h1>a &lt; b &amp; &quot;c&quot;</h1>") && text.contains("&lt;One&gt;"), "{text}");
        assert_eq!(text.matches("</script>").count(), 1);
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("src="), "{text}");
        assert!(text.contains("href=\"#two\"") && text.contains("id=\"two\""));
    }

    #[test]
    fn a_write_error_names_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let page = Document::new("t", html! {});
        page.write(&folder.path().join("page.html")).expect("written");
        let error = page.write(&folder.path().join("no/such/page.html")).expect_err("no folder").to_string();
        assert!(error.contains("no/such/page.html: folder "), "{error}");
    }
}
