//! Comparison of what is drawn with 20,000 draws of the published code, by chi-squared tests.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use glm_schemas::document::{DocumentBatchBuilder, DocumentRow, DocumentView};
use glm_schemas::origin::Origin;
use glm_schemas::vocab::TokenId;
use serde_json::Value;

use super::draws::{Draws, Use};
use super::golden_tests::{golden, tiny};
use super::layout::Blanks;
use super::objective::{Drawn, Objective};
use super::settings::InfillSettings;
use super::spans::Lengths;
use super::text::{Span, Text};
use super::{Infill, window};
use crate::batch::packed::Batch;

/// Number of draws.
const DRAWS: u64 = 20_000;
/// Bins with fewer draws in both are merged.
const LEAST: f64 = 20.0;

type Histogram = BTreeMap<i64, f64>;

fn recorded(value: &Value) -> Histogram {
    let counts = value.as_object().expect("a histogram").iter();
    counts.map(|(key, count)| (key.parse().expect("a number"), count.as_f64().expect("a count"))).collect()
}

fn count(histogram: &mut Histogram, key: usize) {
    *histogram.entry(key as i64).or_default() += 1.0;
}

/// Chi-squared test of the hypothesis that two histograms are of the same law, at p > 0.001. Draws within a sample that depend on each
/// other count as `weight` of a draw.
#[track_caller]
fn same_law(name: &str, ours: &Histogram, theirs: &Histogram, weight: f64) {
    let keys: std::collections::BTreeSet<i64> = ours.keys().chain(theirs.keys()).copied().collect();
    let mut bins: Vec<[f64; 2]> = Vec::new();
    let mut open = [0.0; 2];
    for key in keys {
        open[0] += weight * ours.get(&key).copied().unwrap_or(0.0);
        open[1] += weight * theirs.get(&key).copied().unwrap_or(0.0);
        if open[0].min(open[1]) >= LEAST {
            bins.push(std::mem::take(&mut open));
        }
    }
    match bins.last_mut() {
        Some(last) => (last[0], last[1]) = (last[0] + open[0], last[1] + open[1]),
        None => bins.push(open),
    }
    let total = |i: usize| bins.iter().map(|bin| bin[i]).sum::<f64>().max(1.0);
    let (a, b) = (total(0), total(1));
    let statistic: f64 = bins
        .iter()
        .map(|[ours, theirs]| ((b / a).sqrt() * ours - (a / b).sqrt() * theirs).powi(2) / (ours + theirs).max(1.0))
        .sum();
    // The quantile 0.999 by Wilson and Hilferty's approximation.
    let freedom = (bins.len().saturating_sub(1)).max(1) as f64;
    let limit = freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.0902 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
    assert!(statistic < limit, "{name}: {statistic:.1} of {limit:.1} in {} bins\nours {ours:?}\ntheirs {theirs:?}", bins.len());
}

/// Two counts that add up to the draws.
fn share(of: f64, all: f64) -> Histogram {
    Histogram::from([(0, all - of), (1, of)])
}

/// The first `count` words of a recorded document of `words` words.
fn words(document: usize, words: usize, count: usize) -> Vec<TokenId> {
    let word = |j: usize| match (j * j + 3 * j + 5 * document).is_multiple_of(19) || j + 1 == words {
        true => 20,
        false => (200 + (7 * j + document) % 100) as TokenId,
    };
    (0..count).map(word).collect()
}

fn single(tokens: usize) -> Vec<TokenId> {
    [&[tiny().cls][..], &words(2, tokens - 2, tokens - 2), &[tiny().pad]].concat()
}

fn packed() -> Vec<TokenId> {
    let whole = |document, count| [&[tiny().cls][..], &words(document, count, count), &[tiny().pad]].concat();
    [whole(2, 60), whole(4, 110), whole(5, 40), vec![tiny().cls], words(3, 400, 295)].concat()
}

fn marks(ids: &[TokenId]) -> Vec<usize> {
    (0..ids.len()).filter(|index| ids[*index] == 20).map(|index| index + 1).collect()
}

fn settings() -> InfillSettings {
    InfillSettings { task_mask: true, ..InfillSettings::default() }
}

/// Blanks of a sample for many keys.
fn blanks(ids: &[TokenId], objective: Objective, settings: InfillSettings, draws: u64) -> impl Iterator<Item = Blanks> {
    let (marks, lengths, special) = (marks(ids), Lengths::new(3.0), tiny());
    (0..draws).map(move |key| {
        let text = Text { ids, before: 1, special };
        objective.blanks(&text, &marks, &settings, &lengths, &mut Draws::new(key + 1, Use::Spans, 0))
    })
}

fn spans_of(blanks: Blanks) -> Vec<Span> {
    match blanks {
        Blanks::Spans(spans) => spans,
        Blanks::Suffix(length) => panic!("a suffix of {length}"),
    }
}

#[test]
fn short_spans_follow_the_published_law() {
    let statistics = golden("statistics.json");
    let cases = [("token_single", single(512)), ("token_packed", packed()), ("single_span", single(512))];
    let short = [14, 16, 21, 32, 64, 128].map(|tokens| (format!("token_short_{tokens}"), single(tokens)));
    for (name, ids) in cases.map(|(name, ids)| (name.to_owned(), ids)).into_iter().chain(short) {
        let theirs = &statistics[&name];
        assert_eq!(theirs["dropped"], 0, "{name}");
        let objective = if name == "single_span" { Objective::SingleSpan } else { Objective::Token };
        let [mut length, mut number, mut masked, mut place, mut rank] = [(); 5].map(|()| Histogram::new());
        let [mut gaps, mut gaps_of_one, mut pairs, mut ascending] = [0.0; 4];
        for spans in blanks(&ids, objective, settings(), DRAWS).map(spans_of) {
            count(&mut number, spans.len());
            count(&mut masked, spans.iter().map(Span::len).sum());
            spans.iter().for_each(|span| count(&mut length, span.len()));
            spans.iter().flat_map(|span| span.start..span.end).for_each(|token| count(&mut place, token / 8));
            pairs += (spans.len() - 1) as f64;
            ascending += spans.windows(2).filter(|pair| pair[0] < pair[1]).count() as f64;
            if spans.len() >= 10 {
                let first = (0..spans.len()).min_by_key(|span| spans[*span]).expect("a span");
                count(&mut rank, 10 * first / spans.len());
            }
            let mut sorted = spans;
            sorted.sort_unstable();
            gaps += (sorted.len() - 1) as f64;
            gaps_of_one += sorted.windows(2).filter(|pair| pair[1].start == pair[0].end + 1).count() as f64;
        }
        same_law(&format!("{name} lengths"), &length, &recorded(&theirs["span_length"]), 1.0);
        same_law(&format!("{name} spans"), &number, &recorded(&theirs["spans"]), 1.0);
        same_law(&format!("{name} masked"), &masked, &recorded(&theirs["masked"]), 1.0);
        let bins = theirs["masked_count_at_token_8bins"].as_array().expect("bins").iter();
        let bins: Histogram = (0..).zip(bins.map(|bin| bin.as_f64().expect("a count"))).collect();
        same_law(&format!("{name} places"), &place, &bins, 1.0 / 6.0);
        let number = |key: &str| theirs[key].as_f64().expect("a number");
        if gaps > 0.0 {
            same_law(
                &format!("{name} gaps"),
                &share(gaps_of_one, gaps),
                &share(number("gaps_of_one_token"), number("gaps")),
                1.0,
            );
            let published = share(number("part_b_pairs_left_to_right"), number("part_b_pairs"));
            same_law(&format!("{name} order"), &share(ascending, pairs), &published, 1.0);
        }
        if !rank.is_empty() {
            same_law(&format!("{name} first span"), &rank, &recorded(&theirs["leftmost_span_rank_decile"]), 1.0);
        }
    }
}

#[test]
fn lengths_follow_the_exact_law() {
    let expected = golden("statistics.json")["exact_span_length"]["probability"].clone();
    let (lengths, mut draws) = (Lengths::new(3.0), Draws::new(5, Use::Spans, 0));
    let mut found = Histogram::new();
    (0..DRAWS).for_each(|_| count(&mut found, lengths.draw(&mut draws)));
    let expected = expected.as_array().expect("probabilities").iter().map(|share| 1e9 * share.as_f64().expect("a share"));
    same_law("lengths", &found, &(1..).zip(expected).collect(), 1.0);
}

#[test]
fn sentences_are_chosen_uniformly() {
    let statistics = golden("statistics.json");
    for (name, ids) in [("sentence_single", single(512)), ("sentence_packed", packed())] {
        let [mut number, mut masked, mut chosen] = [(); 3].map(|()| Histogram::new());
        for spans in blanks(&ids, Objective::Sentence, settings(), DRAWS).map(spans_of) {
            count(&mut number, spans.len());
            count(&mut masked, spans.iter().map(Span::len).sum());
            // The published sentences begin with the head of their document.
            let head = |start: usize| usize::from(start > 1 && ids[start - 1] == tiny().cls);
            spans.iter().for_each(|span| count(&mut chosen, span.start - head(span.start)));
        }
        let theirs = &statistics[name];
        same_law(&format!("{name} choice"), &chosen, &recorded(&theirs["times_chosen"]), 1.0);
        if name == "sentence_single" {
            same_law(&format!("{name} sentences"), &number, &recorded(&theirs["sentences"]), 1.0);
            same_law(&format!("{name} masked"), &masked, &recorded(&theirs["masked"]), 1.0);
        }
    }
}

#[test]
fn long_spans_and_suffixes_follow_the_published_law() {
    let statistics = golden("statistics.json");
    let cases = [("document_single_0.25", single(512), 0.25), ("document_single_0.5", single(512), 0.5)];
    for (name, ids, min_ratio) in cases.into_iter().chain([("document_packed_0.25", packed(), 0.25)]) {
        let [mut length, mut place] = [(); 2].map(|()| Histogram::new());
        let mut suffixes = 0.0;
        for blanks in blanks(&ids, Objective::Document, InfillSettings { min_ratio, ..settings() }, DRAWS) {
            let drawn = match blanks {
                Blanks::Suffix(drawn) => {
                    suffixes += 1.0;
                    drawn
                }
                Blanks::Spans(spans) => {
                    let (drawn, free) = (spans[0].len(), ids.len() - 2 - spans[0].len() + 1);
                    count(&mut place, 10 * (spans[0].start - 1) / free);
                    drawn
                }
            };
            count(&mut length, drawn / 16 * 16);
        }
        let theirs = &statistics[name];
        same_law(&format!("{name} length"), &length, &recorded(&theirs["length_16bins"]), 1.0);
        let published = share(theirs["suffix"].as_f64().expect("a number"), DRAWS as f64);
        same_law(&format!("{name} suffix"), &share(suffixes, DRAWS as f64), &published, 1.0);
        same_law(&format!("{name} start"), &place, &recorded(&theirs["span_start_decile_of_free_room"]), 1.0);
    }
}

#[test]
fn objectives_are_mixed_as_published() {
    let statistics = golden("statistics.json");
    for (name, token, sentence, single_span) in [
        ("mode_base", 1.0, 0.0, 0.0),
        ("mode_10B", 0.5, 0.3, 0.0),
        ("mode_chinese_large", 0.4, 0.3, 0.0),
        ("mode_10B_longer", 0.4, 0.3, 0.05),
    ] {
        let document = 1.0 - token - sentence;
        let settings = InfillSettings { token, sentence, document, single_span, ..InfillSettings::default() };
        let mut found = Histogram::new();
        for key in 0..DRAWS {
            count(&mut found, Drawn::of(key + 1, &settings).objective as usize);
        }
        let names = ["token", "single span", "sentence", "document"];
        let theirs = &statistics[name]["counts"];
        let theirs = (0..).zip(names).filter_map(|(key, name)| Some((key, theirs.get(name)?.as_f64()?))).collect();
        same_law(name, &found, &theirs, 1.0);
    }
}

/// A data set of one document.
fn document(ids: &[TokenId]) -> RecordBatch {
    let ends: Vec<i32> = marks(ids).into_iter().map(|end| end as i32).collect();
    let row = DocumentRow {
        example_id: "d",
        origin: Origin::NONE,
        source: "s",
        prompt: None,
        text: "",
        prompt_ids: &[],
        ids,
        sentence_ends: &ends,
    };
    let mut builder = DocumentBatchBuilder::new();
    builder.append(&row).expect("row");
    builder.finish().expect("batch")
}

#[test]
fn hidden_tokens_and_short_pieces_have_their_share() {
    let batch = document(&words(2, 510, 510));
    let view = DocumentView::try_new(&batch).expect("view");
    let settings = InfillSettings { input_masking: 0.1, ..settings() };
    let task = Infill::new(tiny(), 512, settings);
    let (mut hidden, mut all) = (0.0, 0.0);
    for key in 0..2000 {
        let (sample, mut packed) = (task.sample(&view, 0, key + 1), Batch::default());
        sample.push(&task, key, &mut packed);
        let inputs = &packed.inputs;
        let pieces = inputs.rows[0].context..inputs.ids.len();
        let tokens = pieces.filter(|token| inputs.block_position[*token] > 1).map(|token| inputs.ids[token]);
        let tokens: Vec<i64> = tokens.collect();
        all += tokens.len() as f64;
        hidden += tokens.iter().filter(|id| **id == i64::from(tiny().masks().block)).count() as f64;
    }
    let theirs = &golden("statistics.json")["token_input_masking_0.1"]["input_masking"];
    let number = |key: &str| theirs[key].as_f64().expect("a number");
    same_law("hidden", &share(hidden, all), &share(number("replaced"), number("masked_tokens")), 1.0);

    let theirs = &golden("statistics.json")["short_0.5"];
    let task = Infill::new(tiny(), 512, InfillSettings { short_pieces: 0.5, ..settings });
    let (mut pieces, mut short) = (Histogram::new(), 0.0);
    for key in 0..DRAWS {
        if Drawn::of(key + 1, &task.settings).short {
            short += 1.0;
            let mut packed = Batch::default();
            task.sample(&view, 0, key + 1).push(&task, key, &mut packed);
            count(&mut pieces, packed.inputs.rows.len());
        }
    }
    let published = share(theirs["short"].as_f64().expect("a number"), DRAWS as f64);
    same_law("short", &share(short, DRAWS as f64), &published, 1.0);
    same_law("pieces", &pieces, &recorded(&theirs["pieces"]), 1.0);
}

#[test]
fn windows_start_anywhere_and_reach_both_ends() {
    let text = words(2, 3000, 3000);
    let ends: Vec<i32> = marks(&text).into_iter().map(|end| end as i32).collect();
    let document = window::Document { prompt: &[], text: &text, ends: &ends };
    let (mut first, mut last, mut reached_end) = (usize::MAX, 0, 0);
    let mut tenths = Histogram::new();
    for key in 0..DRAWS {
        let mut draws = Draws::new(key + 1, Use::Window, 0);
        let window = document.window(512, &mut |n| draws.below(n));
        assert!(window.len() < 512 && window.len() >= 511 / 2 - 1, "{window:?}");
        let start = window.start;
        assert!(start == 0 || text[start - 1] == 20, "sentences are short, so one starts in reach");
        (first, last) = (first.min(window.start), last.max(window.start));
        reached_end += usize::from(window.end == 3001);
        count(&mut tenths, 10 * window.start / 2500);
    }
    assert_eq!(first, 0);
    assert!(last > 2450 && reached_end > 0, "{last} {reached_end}");
    let uniform = (0..10).map(|tenth| (tenth, DRAWS as f64 / 10.0)).collect();
    // Starts of sentences are not evenly dense, so that neighbouring tenths differ slightly.
    same_law("starts", &tenths, &uniform, 0.2);
}
