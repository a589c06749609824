//! HTML document: title, sections, style and script.

use std::path::Path;

use crate::files::output::{Output, OutputError};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");
/// Forbids loading anything; the empty icon stops browsers from requesting one.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// A page with a title, a lead and sections.
#[derive(Debug)]
pub struct Document {
    kind: String,
    name: String,
    lead: Markup,
    sections: Vec<(String, String, Markup)>,
}

impl Document {
    /// Creates a page without sections. Its title is the `kind` of thing that the page describes ("Data set") and its `name`;
    /// `lead` is shown below.
    #[must_use]
    pub fn new(kind: impl Into<String>, name: impl Into<String>, lead: Markup) -> Self {
        Self { kind: kind.into(), name: name.into(), lead, sections: Vec::new() }
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
                    title { (self.name) " - " (self.kind) }
                    link rel="icon" href="data:,";
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header id="top" {
                        h1 { span.kind { (self.kind) } " " bdi { (self.name) } }
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
                                h2 { span id={ (id) "-heading" } { (heading) } " " (link_to(id, heading)) }
                                (content)
                            }
                        }
                    }
                    a.top href="#top" aria-label="Back to the top" { "↑ Top" }
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

/// Renders a link to a section, to copy.
fn link_to(id: &str, name: &str) -> Markup {
    html! { a.here href={ "#" (id) } aria-label={ "Link to " (name) } { "#" } }
}

/// Returns the name of a folder with that of its parent, as names like `run` mean little alone: `runs/first`.
#[must_use]
pub fn folder_name(folder: &Path) -> String {
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let parent = path.parent().and_then(Path::file_name);
    let names: Vec<_> = [parent, path.file_name()].into_iter().flatten().map(|name| name.to_string_lossy()).collect();
    if names.is_empty() { path.display().to_string() } else { names.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_self_contained_and_escaped() {
        let mut page = Document::new("Run", "a < b & \"c\"", html! { p { ("</script>") } });
        page.section("one", "<One>", html! { p { "text" } });
        page.section("two", "Two", html! {});
        let text = page.render();
        assert!(text.starts_with("<!DOCTYPE html>"));
        assert!(text.contains("<bdi>a &lt; b &amp; &quot;c&quot;</bdi></h1>") && text.contains("&lt;One&gt;"), "{text}");
        assert!(text.contains("<title>a &lt; b &amp; &quot;c&quot; - Run</title>"), "{text}");
        assert_eq!(text.matches("</script>").count(), 1);
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("src="), "{text}");
        assert!(text.contains("href=\"#two\"") && text.contains("id=\"two\""));
    }

    #[test]
    fn a_folder_is_named_with_its_parent() {
        let folder = tempfile::tempdir().expect("folder");
        let run = folder.path().join("runs/first");
        std::fs::create_dir_all(&run).expect("folders");
        assert_eq!(folder_name(&run.join("../first")), "runs/first");
        assert_eq!(folder_name(Path::new("/")), "/");
    }

    #[test]
    fn a_write_error_names_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let page = Document::new("k", "t", html! {});
        page.write(&folder.path().join("page.html")).expect("written");
        let error = page.write(&folder.path().join("no/such/page.html")).expect_err("no folder").to_string();
        assert!(error.contains("no/such/page.html: folder "), "{error}");
    }
}
