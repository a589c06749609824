//! Progress and main results of a run.

use glm_support::page::number::{bytes, count, duration, mean, operations, value};
use glm_support::page::table::{Column, Tile, folded, table, text, tiles};
use maud::{Markup, html};

use super::Known;
use super::records::Entry;
use crate::record::metrics::SplitRows;
use crate::task::Words;
use crate::task::metrics::{MetricInfo, Role, Selection};

/// Number of final log lines over which the loss is averaged.
const TAIL: usize = 20;

impl Known {
    /// Returns a sentence about the progress of the run.
    pub(super) fn status(&self) -> String {
        let samples = self.records.samples();
        let planned = self.sessions.last().map_or(0, |session| session.planned_samples);
        let target = self.config.as_ref().map_or(0.0, |config| config.train.target_metric);
        let info = self.selected();
        let best = info.and_then(|info| self.best()?.value(info.name));
        let reached = target > 0.0
            && best.zip(Selection::of(self.metrics())).is_some_and(|(best, selection)| selection.reaches(best, target));
        let word = self.words().samples;
        let of = match planned {
            0 => format!("{} {word}", count(samples)),
            planned => format!("{} of {} {word}", count(samples), count(planned)),
        };
        if self.going_on {
            return format!("The run is in progress: {of} so far.");
        }
        if samples == 0 {
            return "No step has been logged.".to_owned();
        }
        if reached {
            let target = info.map_or_else(String::new, |info| format!(" {} of {}", info.label, info.format(target)));
            return format!("Finished: the target{target} was reached after {of}.");
        }
        match planned {
            0 => format!("Trained on {of}."),
            planned if samples >= planned => format!("Finished: {of}."),
            _ => format!("Stopped early, after {of}; the command that started the run resumes it."),
        }
    }

    /// Renders the main results and how they came about.
    pub(super) fn overview(&self) -> Markup {
        let records = &self.records;
        let (mut main, mut minor) = (Vec::new(), Vec::new());
        match (self.best(), records.evals.last()) {
            (Some(best), Some(last)) => self.quality_tiles(best, last, &mut main, &mut minor),
            _ => main.push(Tile::new("Quality", "n/a".to_owned(), "no evaluation yet".to_owned())),
        }
        if !records.train.is_empty() {
            self.training_tiles(&mut main, &mut minor);
        }
        html! {
            @for warning in self.warnings() { p.warning { (warning) } }
            (tiles(&main, &minor))
            @if records.damaged > 0 {
                p.warning {
                    "metrics.jsonl has " (count(records.damaged as u64)) @if records.damaged == 1 { " line" } @else { " lines" }
                    " that cannot be read, for example because the run was killed; the page omits them."
                }
            }
            (self.provenance())
            @if !records.evals.is_empty() { (self.evaluations()) }
        }
    }

    /// Adds the metric that selects checkpoints, its last value, the other metrics of quality, and the baselines.
    fn quality_tiles(&self, best: &Entry, last: &Entry, main: &mut Vec<Tile>, minor: &mut Vec<Tile>) {
        let Some(first) = self.selected() else { return };
        let chance = self.metrics().iter().find(|info| info.role == Role::Baseline);
        let [best_of, last_of] = ["Best", "Last"].map(|which| format!("{which} {}", first.label));
        let note = |eval: &Entry| format!("{}, step {}", self.evaluated_on(eval), count(eval.step));
        // An evaluation on more samples is more precise.
        let ((name, chosen), other) = match best.value(self.words().evaluated) < last.value(self.words().evaluated) {
            true => ((last_of, last), Some((best_of, best))),
            false => ((best_of, best), Some((last_of, last)).filter(|_| last.step != best.step)),
        };
        let others = self.metrics().iter().filter(|info| info.name != first.name && info.role != Role::Total);
        let others = others.filter(|info| chance.is_none_or(|chance| chance.name != info.name));
        // Metrics that always had the same value, as F1 of choices of one word, are named instead of repeated.
        let is_same = |info: &MetricInfo| self.records.evals.iter().all(|eval| shown(info, eval) == shown(first, eval));
        let (same, others): (Vec<&MetricInfo>, Vec<&MetricInfo>) =
            others.copied().partition(|info| info.role != Role::Baseline && is_same(info));
        let same = match same.iter().map(|info| info.label).collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            [one] => format!("; {one} is the same"),
            [others @ .., last] => format!("; {} and {last} are the same", others.join(", ")),
        };
        let chance = chance.map_or_else(String::new, |info| format!("{} {}; ", info.label, shown(info, chosen)));
        main.push(Tile::new(&name, shown(first, chosen), format!("{chance}{}{same}", note(chosen))));
        minor.extend(other.map(|(name, eval)| Tile::new(&name, shown(first, eval), note(eval))));
        minor.extend(others.iter().map(|info| Tile::new(info.label, shown(info, chosen), info.meaning.to_owned())));
    }

    fn training_tiles(&self, main: &mut Vec<Tile>, minor: &mut Vec<Tile>) {
        let records = &self.records;
        let losses: Vec<f64> = records.train.iter().filter_map(|train| train.value("loss")).collect();
        let tail = &losses[losses.len().saturating_sub(TAIL)..];
        let newest = records.train.iter().rev().find_map(|train| Some((train.step, train.value("loss")?)));
        if let Some((step, loss)) = newest {
            let note = match tail.len() {
                1 => format!("at step {}", count(step)),
                lines => {
                    format!(
                        "at step {}; mean of the last {lines} log lines: {}",
                        count(step),
                        value(tail.iter().sum::<f64>() / lines as f64)
                    )
                }
            };
            main.push(Tile::new("Training loss", value(loss), note));
        }
        let last = records.train.last();
        main.push(Tile::new(
            &format!("{} trained on", self.words().title()),
            count(records.samples()),
            match last.and_then(|train| train.value("epoch")) {
                Some(epoch) => format!("{epoch:.2} epochs, {} steps", count(records.step())),
                None => format!("{} steps", count(records.step())),
            },
        ));
        let seconds = records.training_seconds();
        if seconds > 0.0 {
            let evaluating: f64 = records.evals.iter().filter_map(|eval| eval.value("seconds")).sum();
            let beside = if evaluating > 0.0 { format!("and {} evaluating", duration(evaluating)) } else { String::new() };
            main.push(Tile::new("Training time", duration(seconds), beside));
            let speed = last.map_or(0, |train| train.samples) as f64 / seconds;
            let tokens = records.mean("tokens_per_second").map(|tokens| format!("{} tokens/s", mean(tokens)));
            let operations = records.mean("model_flops_per_second").map(operations);
            let utilization = records.mean("utilisation").map(|share| format!("MFU {:.0} %", 100.0 * share));
            let note = [tokens, operations, utilization].into_iter().flatten().collect::<Vec<_>>().join(", ");
            minor.push(Tile::new("Speed", format!("{} {}/s", mean(speed), self.words().samples), note));
        }
        if let Some(peak) = last.and_then(|train| train.value("peak_memory_bytes")) {
            minor.push(Tile::new("Peak memory", bytes(peak as u64), "of one process".to_owned()));
        }
        let skipped =
            last.and_then(|train| train.value("skipped")).map_or(0, |skipped| skipped as u64).max(records.skipped.len() as u64);
        if skipped > 0 {
            minor.push(Tile::new("Skipped steps", count(skipped), "loss or gradient not finite".to_owned()));
        }
    }

    fn evaluations(&self) -> Markup {
        let infos = self.metrics();
        let trained_on = format!("{} trained on", self.words().samples);
        let mut columns = vec![("step", Column::Number), (trained_on.as_str(), Column::Number)];
        columns.extend(infos.iter().map(|info| (info.label, Column::Number)));
        columns.push(("duration", Column::Number));
        let row = |eval: &Entry| {
            let mut row = vec![text(count(eval.step)), text(count(eval.samples))];
            row.extend(infos.iter().map(|info| text(shown(info, eval))));
            row.push(text(duration(eval.value("seconds").unwrap_or(f64::NAN))));
            row
        };
        let rows: Vec<_> = self.records.evals.iter().map(row).collect();
        folded(format!("Evaluations as a table ({})", count(rows.len() as u64)), &table("Evaluations", &columns, &rows))
    }

    /// Returns what an evaluation used: "300 of 962 questions of val".
    pub(super) fn evaluated_on(&self, eval: &Entry) -> String {
        let in_session = || self.sessions.last().map(|session| session.val_questions as u64).filter(|all| *all > 0);
        let all = eval.value(&SplitRows::key(self.words().rows)).map(|all| all as u64).or_else(in_session);
        let Words { rows, samples, evaluated, .. } = self.words();
        match (eval.value(evaluated).map(|used| used as u64), all) {
            (Some(used), Some(_)) if rows != samples => format!("{} {samples} of val", count(used)),
            (Some(used), Some(all)) if used < all => format!("{} of {} {rows} of val", count(used), count(all)),
            (Some(used), Some(_)) => format!("all {} {rows} of val", count(used)),
            (Some(used), None) => format!("{} {samples}", count(used)),
            (None, _) => format!("number of {samples} unknown"),
        }
    }
}

/// Returns the value of a metric with its unit.
pub(super) fn shown(info: &MetricInfo, eval: &Entry) -> String {
    eval.value(info.name).map_or_else(|| "n/a".to_owned(), |value| info.format(value))
}
