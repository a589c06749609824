//! Statistics of documents as text, at most 80 columns wide.

use std::io::{self, Write};

use super::documents::{Copies, DocumentSplit, DocumentStats};
use super::print::{NAME_CHARS, print_histogram, print_lengths, shortened};

pub(super) fn print(stats: &DocumentStats, out: &mut dyn Write) -> io::Result<()> {
    for split in &stats.splits {
        print_split(split, out)?;
    }
    let shared = &stats.in_train_and_val;
    if shared.documents > 0 {
        writeln!(out, "WARNING: {} documents of val are also in train:", shared.documents)?;
        print_examples(shared, out)?;
    }
    Ok(())
}

fn print_split(split: &DocumentSplit, out: &mut dyn Write) -> io::Result<()> {
    let prompts = if split.prompts > 0 { format!(", {} with a prompt", split.prompts) } else { String::new() };
    writeln!(out, "{}: {} documents, {} tokens{prompts}", split.split, split.documents, split.tokens)?;
    writeln!(out)?;
    let parts =
        [("tokens per document", &split.tokens_per_document), ("sentences per document", &split.sentences_per_document)];
    print_lengths(&parts, out)?;
    for (name, lengths) in parts {
        print_histogram(name, lengths, out)?;
    }
    writeln!(out)?;
    let unknown = &split.unknown;
    writeln!(out, "  {} of {} tokens are [UNK] ({:.3}%)", unknown.count, unknown.of, 100.0 * unknown.share)?;
    writeln!(out, "  {} exact duplicates of earlier documents (see ingest --dedup exact)", split.exact_duplicates.documents)?;
    print_examples(&split.exact_duplicates, out)?;
    writeln!(out, "  {} near duplicates of earlier documents", split.near_duplicates.documents)?;
    print_examples(&split.near_duplicates, out)?;
    writeln!(out, "  {} sources:", split.distinct_sources)?;
    for source in &split.sources {
        writeln!(out, "    {:<NAME_CHARS$} {:>10}", shortened(&source.name), source.documents)?;
    }
    let others = split.distinct_sources - split.sources.len();
    if others > 0 {
        writeln!(out, "    and {others} more")?;
    }
    writeln!(out)
}

fn print_examples(copies: &Copies, out: &mut dyn Write) -> io::Result<()> {
    for example_id in &copies.example_ids {
        writeln!(out, "    {}", shortened(example_id))?;
    }
    let others = copies.documents - copies.example_ids.len();
    if others > 0 {
        writeln!(out, "    and {others} more")?;
    }
    Ok(())
}
