//! Renders pages in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Finished, command, run};

/// Browsers with the same command line options.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Virtual milliseconds until the page is captured.
const BUDGET: &str = "--virtual-time-budget=4000";

/// Window width of a phone.
pub const PHONE: u32 = 390;
/// Window width of a laptop.
pub const DESKTOP: u32 = 1280;
/// Width of a page in excess of the visible width, which excludes the scroll bar.
const EXCESS: &str = "page.scrollingElement.scrollWidth - page.scrollingElement.clientWidth";

/// Rendered page.
#[derive(Debug)]
pub struct Shown {
    /// Text of the document after its scripts have run.
    pub document: String,
    /// Console messages, one per line.
    pub console: Vec<String>,
}

/// Returns the path of the browser: `$GLM_BROWSER`, or an installed one.
///
/// # Panics
/// Panics if there is none.
pub fn browser() -> PathBuf {
    let configured = std::env::var_os("GLM_BROWSER").map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let installed = || NAMES.iter().flat_map(|name| std::env::split_paths(&paths).map(move |folder| folder.join(name)));
    configured
        .or_else(|| installed().find(|path| path.is_file()))
        .unwrap_or_else(|| panic!("no browser to render pages: `apt-get install chromium`, or set GLM_BROWSER"))
}

/// Renders a file in a window of the given width.
///
/// # Panics
/// Panics if the browser cannot be started or renders nothing.
pub fn show(page: &Path, width: u32) -> Shown {
    let profile = tempfile::tempdir().expect("folder");
    let options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // Lets a local page access a frame with another local page; `in_frame` needs this.
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        "--v=0",
        BUDGET,
        "--dump-dom",
    ];
    let output = Command::new(browser())
        .args(options)
        .arg(format!("--window-size={width},1400"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.canonicalize().expect("the page").display()))
        .output()
        .expect("start the browser");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(document.contains("</html>"), "{} is not rendered:\n{log}", page.display());
    let console = log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    Shown { document, console }
}

/// Renders a page in a frame of the given width, which may be less than the minimum width of a window, and returns the value of the
/// JavaScript `expression`, in which `page` is the frame's document.
///
/// # Panics
/// Panics if the browser cannot be started.
pub fn in_frame(page: &Path, width: u32, expression: &str) -> String {
    let name = page.file_name().expect("a file").to_string_lossy();
    let wrapper = page.with_file_name(format!("frame-{width}-{name}"));
    let text = format!(
        "<!DOCTYPE html><html><body><iframe id=\"frame\" width=\"{width}\" height=\"900\" style=\"border:0\" src=\"{name}\"></iframe>\
         <pre id=\"found\"></pre><script>onload = () => {{ const page = document.getElementById('frame').contentDocument; \
         document.getElementById('found').textContent = '[[' + ({expression}) + ']]'; }};</script></body></html>"
    );
    std::fs::write(&wrapper, text).expect("write");
    let Shown { document, console } = show(&wrapper, 1200);
    std::fs::remove_file(&wrapper).expect("remove");
    let found = document.split_once(">[[").and_then(|(_, rest)| rest.split_once("]]<")).map(|(found, _)| found.to_owned());
    found.unwrap_or_else(|| panic!("no value of the expression in {name}: {console:?}\n{document}"))
}

/// Checks that a page makes no network requests, writes nothing to the console, and fits a phone. Returns the document.
///
/// # Panics
/// Panics if it does not.
pub fn check(page: &Path) -> String {
    let text = std::fs::read_to_string(page).expect("page");
    for forbidden in ["http://", "https://", " src=", "url(", "@import"] {
        assert!(!text.contains(forbidden), "{} contains {forbidden}", page.display());
    }
    let shown = show(page, DESKTOP);
    assert_eq!(shown.console, [] as [&str; 0]);
    assert_eq!(in_frame(page, PHONE, EXCESS), "0", "{} is wider than a phone", page.display());
    let headings = in_frame(page, PHONE, "[...page.querySelectorAll('h1,h2,h3')].map((h) => h.tagName[1]).join('')");
    assert!(headings.starts_with("12") && !headings[1..].contains('1'), "headings out of order: {headings}");
    // Whatever is wider than its place scrolls, with a shadow where it continues.
    let shadows = "[...page.querySelectorAll('.scroll')].every((table) => \
                   page.defaultView.getComputedStyle(table).backgroundAttachment === 'local, local, scroll, scroll')";
    assert_eq!(in_frame(page, PHONE, shadows), "true");
    // From the end of the page a link in view leads back to the top.
    let back = "(() => { const view = page.defaultView; view.scrollTo(0, 1e6); const link = page.querySelector('a.top'); \
                const box = link.getBoundingClientRect(); const found = page.getElementById(link.hash.slice(1)); \
                return box.top > 0 && box.bottom <= view.innerHeight && box.right <= view.innerWidth \
                && found.tagName; })()";
    assert_eq!(in_frame(page, PHONE, back), "HEADER");
    shown.document
}

/// Returns the number of points with hover values in a chart.
///
/// # Panics
/// Panics if there is no such chart.
pub fn points(page: &Path, chart: &str) -> usize {
    let count = format!("page.querySelector('#{chart} [data-x]').dataset.x.split(' ').filter(Boolean).length");
    in_frame(page, PHONE, &count).parse().expect("a number")
}

/// Writes the page of a folder.
pub fn report(program: &str, folder: &Path) -> Finished {
    run(command(program).arg("report").arg(folder))
}
