//! Statistics as text, at most 80 columns wide.

use std::io::{self, Write};

use super::lengths::Lengths;
use super::passages::Shared;
use super::summary::{SplitStats, Stats};

/// Maximum length of a bar, which fits 80 columns with its bounds and number.
const BAR_CHARS: usize = 40;
/// Maximum length of the name of a source.
pub(super) const NAME_CHARS: usize = 50;

pub(super) fn print(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    for split in &stats.splits {
        print_split(split, stats.max_seq_len, out)?;
    }
    let shared = &stats.in_train_and_val;
    if shared.passages > 0 {
        writeln!(out, "WARNING: {} passages are in train and in val, {} questions of val", shared.passages, shared.questions)?;
        writeln!(out, "ask about them:")?;
        print_examples(shared, out)?;
    }
    Ok(())
}

fn print_split(split: &SplitStats, max_seq_len: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: {} questions about {} passages", split.split, split.questions, split.passages)?;
    writeln!(out)?;
    let parts = [
        ("choices per question", &split.choices),
        ("mentions per question", &split.mentions),
        ("context, in tokens", &split.context),
        ("choice, in tokens", &split.choice),
    ];
    print_lengths(&parts, out)?;
    for (name, lengths) in parts {
        print_histogram(name, lengths, out)?;
    }
    let cut = &split.truncation;
    writeln!(out)?;
    writeln!(
        out,
        "  at {max_seq_len} tokens {} questions ({:.2}%) lose {} passage tokens",
        cut.questions,
        100.0 * cut.share,
        cut.tokens_lost
    )?;
    if cut.do_not_fit > 0 {
        writeln!(out, "  WARNING: {} questions do not fit {max_seq_len} tokens at all", cut.do_not_fit)?;
    }
    if split.single_choice > 0 {
        writeln!(out, "  WARNING: {} questions have a single choice", split.single_choice)?;
    }
    if split.indistinguishable > 0 {
        writeln!(out, "  WARNING: {} questions have choices of the same tokens", split.indistinguishable)?;
    }
    let unknown = &split.unknown;
    writeln!(out, "  {} of {} tokens are [UNK] ({:.3}%)", unknown.count, unknown.of, 100.0 * unknown.share)?;
    if split.duplicates.passages > 0 {
        writeln!(out, "  {} passages repeat the text of another one of this split:", split.duplicates.passages)?;
        print_examples(&split.duplicates, out)?;
    }
    writeln!(out, "  {} sources:", split.distinct_sources)?;
    for source in &split.sources {
        writeln!(out, "    {:<NAME_CHARS$} {:>10}", shortened(&source.name), source.questions)?;
    }
    let others = split.distinct_sources - split.sources.len();
    if others > 0 {
        writeln!(out, "    and {others} more")?;
    }
    writeln!(out)
}

/// Prints a table of distributions.
pub(super) fn print_lengths(parts: &[(&str, &Lengths)], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  {:<22} {:>6} {:>8} {:>6} {:>6} {:>6} {:>6}", "", "min", "mean", "p50", "p90", "p99", "max")?;
    for (name, Lengths { min, mean, p50, p90, p99, max, .. }) in parts {
        writeln!(out, "  {name:<22} {min:>6} {mean:>8.2} {p50:>6} {p90:>6} {p99:>6} {max:>6}")?;
    }
    Ok(())
}

/// Prints a distribution as bars.
pub(super) fn print_histogram(name: &str, lengths: &Lengths, out: &mut dyn Write) -> io::Result<()> {
    let most = lengths.histogram.iter().map(|bar| bar.count).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "  {name}")?;
    for bar in &lengths.histogram {
        let bounds = if bar.from == bar.to { bar.from.to_string() } else { format!("{}-{}", bar.from, bar.to) };
        // Rounding up keeps the bar of a non-zero count visible.
        let chars = (bar.count * BAR_CHARS).div_ceil(most);
        let line = format!("  {bounds:>13} {:>10} {}", bar.count, "#".repeat(chars));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn print_examples(shared: &Shared, out: &mut dyn Write) -> io::Result<()> {
    for example_id in &shared.example_ids {
        writeln!(out, "    {}", shortened(example_id))?;
    }
    let others = shared.passages - shared.example_ids.len();
    if others > 0 {
        writeln!(out, "    and {others} more")?;
    }
    Ok(())
}

/// Shortens text of the data, which may be long, and replaces control characters.
pub(super) fn shortened(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    match text.char_indices().nth(NAME_CHARS) {
        None => text.chars().map(plain).collect(),
        Some(_) => text.chars().take(NAME_CHARS - 1).map(plain).chain(['…']).collect(),
    }
}
