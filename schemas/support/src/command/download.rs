//! Arguments shared by both `fetch` commands.

use std::path::PathBuf;

use crate::files::fetch::{FetchOptions, parse_sha256};
use clap::Args;

/// Source and destination of a download. The field that these are flattened into must not have a doc comment: clap would print
/// it.
#[derive(Debug, Clone, Args)]
pub struct DownloadArgs {
    /// Destination folder: the raw data folder, where the other commands look for it
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Download from another URL, such as a mirror [default: the authors' URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Required checksum; takes precedence over a recorded one
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    pub sha256: Option<String>,
}

impl DownloadArgs {
    /// Returns `published` with the URL and checksum of the command line.
    pub fn options(&self, published: FetchOptions) -> FetchOptions {
        FetchOptions { url: self.url.clone().unwrap_or(published.url), sha256: self.sha256.clone(), ..published }
    }
}

#[cfg(test)]
mod tests {
    use crate::files::fetch::Archive;
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        download: DownloadArgs,
    }

    #[test]
    fn arguments_override_the_published_url() {
        let published = || FetchOptions::new("a.zip", Archive::Zip, "https://one.example/a.zip", "there");
        let options = |words: &[&str]| Typed::try_parse_from(words).expect("parsed").download.options(published());
        assert_eq!(options(&["fetch", "there"]).url, "https://one.example/a.zip");
        let sha256 = "0f".repeat(32);
        let other = options(&["fetch", "there", "--url", "https://two.example/b.zip", "--sha256", &sha256]);
        assert_eq!((other.url.as_str(), other.sha256), ("https://two.example/b.zip", Some(sha256)));
        assert!(Typed::try_parse_from(["fetch", "there", "--sha256", "0f"]).is_err());
    }
}
