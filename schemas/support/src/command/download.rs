//! The arguments that both `fetch` commands have.

use std::path::PathBuf;

use crate::files::fetch::{FetchOptions, parse_sha256};
use clap::Args;

/// Where to download from and to. Without a doc comment on the field that it is flattened into.
#[derive(Debug, Clone, Args)]
pub struct DownloadArgs {
    /// The folder to put it in: the one of the raw data, where the other commands look for it
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Download from another place, such as a mirror [default: where its authors publish it]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The checksum that the file must have; it counts more than a recorded one
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    pub sha256: Option<String>,
}

impl DownloadArgs {
    /// `published` with what was typed in place of its URL and checksum.
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
    fn what_was_typed_counts_more_than_what_is_published() {
        let published = || FetchOptions::new("a.zip", Archive::Zip, "https://one.example/a.zip", "there");
        let options = |words: &[&str]| Typed::try_parse_from(words).expect("parsed").download.options(published());
        assert_eq!(options(&["fetch", "there"]).url, "https://one.example/a.zip");
        let sha256 = "0f".repeat(32);
        let other = options(&["fetch", "there", "--url", "https://two.example/b.zip", "--sha256", &sha256]);
        assert_eq!((other.url.as_str(), other.sha256), ("https://two.example/b.zip", Some(sha256)));
        assert!(Typed::try_parse_from(["fetch", "there", "--sha256", "0f"]).is_err());
    }
}
