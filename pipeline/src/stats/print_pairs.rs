//! Statistics of pairs as text, at most 80 columns wide.

use std::io::{self, Write};

use super::pairs::{PairSplit, PairStats};
use super::print::{print_histogram, print_lengths};

pub(super) fn print(stats: &PairStats, out: &mut dyn Write) -> io::Result<()> {
    stats.splits.iter().try_for_each(|split| print_split(stats, split, out))
}

fn print_split(stats: &PairStats, split: &PairSplit, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: {} pairs, {} tokens", split.split, split.pairs, split.tokens)?;
    writeln!(out)?;
    let parts = [("tokens per context", &split.tokens_per_context), ("tokens per target", &split.tokens_per_target)];
    print_lengths(&parts, out)?;
    for (name, lengths) in parts {
        print_histogram(name, lengths, out)?;
    }
    writeln!(out)?;
    let percent = |share: f64| format!("{:.2}%", 100.0 * share);
    let (sources, targets) = (&split.cut_sources, &split.cut_targets);
    writeln!(
        out,
        "  contexts of up to {} tokens: {} sources cut ({}), {} tokens lost",
        stats.max_seq_len,
        sources.count,
        percent(sources.share),
        split.cut_source_tokens
    )?;
    writeln!(out, "  targets of up to {} tokens: {} cut ({})", stats.max_target_len, targets.count, percent(targets.share))?;
    if split.do_not_fit > 0 {
        writeln!(out, "  {} pairs do not fit even without their source", split.do_not_fit)?;
    }
    if split.without_target > 0 {
        writeln!(out, "  {} pairs have no target", split.without_target)?;
    }
    if split.windowed_questions > 0 {
        writeln!(out, "  {} questions are asked of windows of a text", split.windowed_questions)?;
    }
    let unknown = &split.unknown;
    writeln!(out, "  {} of {} tokens are [UNK] ({:.3}%)", unknown.count, unknown.of, 100.0 * unknown.share)?;
    writeln!(out)
}
