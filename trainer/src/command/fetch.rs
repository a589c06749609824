//! `glm-trainer fetch`: downloads published weights, see [`glm_support::files::fetch`].

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use glm_support::command::download::DownloadArgs;
use glm_support::files::fetch::{Archive, FetchError, FetchOptions, Fetched, fetch};
use glm_support::files::progress;

use crate::checkpoint::archive;
use crate::model::preset::{PRESETS, PublishedWeights};

/// Download location of the published weights. `p` is the name of the file; `dl` requests the file instead of a page about it.
const PUBLISHED_AT: &str = "https://cloud.tsinghua.edu.cn/d/13f5b03da9594e5490c4/files/?dl=1&p=%2F";

/// Arguments of `fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    /// Weights to download; `glm-trainer presets` describes them
    #[arg(value_name = "NAME", ignore_case = true, value_parser = published())]
    pub weights: PublishedWeights,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub download: DownloadArgs,
}

/// Parser of the names of published weights. Presets are other names for them.
fn published() -> impl TypedValueParser<Value = PublishedWeights> {
    let names = PRESETS.iter().filter_map(|preset| Some(PossibleValue::new(preset.weights?.name()).alias(preset.name)));
    PossibleValuesParser::new(names)
        .try_map(|name| PublishedWeights::named(&name).ok_or_else(|| format!("no published weights are named {name}")))
}

/// Downloads weights, checks that the archive is intact and contains weights, and returns a message about it.
///
/// # Errors
/// [`FetchError`] if the file cannot be downloaded or written, or is not the expected archive.
pub fn run(args: &FetchArgs) -> Result<String, FetchError> {
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    let file = args.weights.archive;
    let published = FetchOptions::new(file, Archive::Bzip2, format!("{PUBLISHED_AT}{file}"), &args.download.dir);
    let options = args.download.options(published);
    let fetched = fetch(&options, |path| archive::check(path, progress.as_ref()), progress.as_ref())?;
    Ok(message(args, &fetched))
}

fn message(args: &FetchArgs, fetched: &Fetched) -> String {
    let Fetched { path, bytes, sha256, already_there, .. } = fetched;
    let path = path.display();
    if *already_there {
        return format!("{path} already exists and its checksum matches; nothing was downloaded\n");
    }
    let mut text = format!("{path}: {bytes} bytes, sha256 {sha256}\n");
    if args.download.sha256.is_none() {
        text += "the authors publish no checksum to compare with; this one is recorded next to the file, and can be passed\n\
                 to --sha256 on other machines\n";
    }
    text + &format!("start from it with `glm-trainer run --init {path}`; the first start unpacks it\n")
}
