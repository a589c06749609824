//! Renders pages in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Browsers with the same command line options.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Virtual milliseconds until the page is captured.
const BUDGET: &str = "--virtual-time-budget=4000";

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
