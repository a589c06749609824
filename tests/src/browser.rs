//! A page in a real browser: what it looks like to a script when it is shown.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Browsers that understand the same options.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Milliseconds of the page's own time until it is looked at.
const BUDGET: &str = "--virtual-time-budget=4000";

/// A page as the browser has shown it.
#[derive(Debug)]
pub struct Shown {
    /// The document behind its scripts, as text.
    pub document: String,
    /// What went to the console, a line a message.
    pub console: Vec<String>,
}

/// `$GLM_BROWSER`, or what is installed.
///
/// # Panics
/// If there is none.
pub fn browser() -> PathBuf {
    let said = std::env::var_os("GLM_BROWSER").map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let installed = || NAMES.iter().flat_map(|name| std::env::split_paths(&paths).map(move |folder| folder.join(name)));
    said.or_else(|| installed().find(|path| path.is_file()))
        .unwrap_or_else(|| panic!("no browser to look at pages with: `apt-get install chromium`, or name one in GLM_BROWSER"))
}

/// Shows a file in a window of this width.
///
/// # Panics
/// If the browser cannot be started or shows nothing.
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
        // A page on the disk may look at a frame from the disk, which the measuring of narrow windows needs.
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
    assert!(document.contains("</html>"), "{} shows nothing:\n{log}", page.display());
    let console = log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    Shown { document, console }
}

/// Shows a page in a frame of this width, which may be less than a window's least, and tells what a script finds there: the value
/// of `expression`, in which `page` is the frame's document.
///
/// # Panics
/// If the browser cannot be started.
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
    // The folder is left as it was found.
    std::fs::remove_file(&wrapper).expect("remove");
    let found = document.split_once(">[[").and_then(|(_, rest)| rest.split_once("]]<")).map(|(found, _)| found.to_owned());
    found.unwrap_or_else(|| panic!("nothing was found in {name}: {console:?}\n{document}"))
}
