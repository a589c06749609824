//! Progress, results and circumstances of a run.

use glm_support::page::number::{self, count, duration, moment};
use glm_support::page::table::{Column, Tile, facts, table, text, tiles};
use maud::{Markup, html};

use super::Known;
use super::records::Entry;
use crate::record::sessions::Session;
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
        let of = match planned {
            0 => format!("{} questions", count(samples)),
            planned => format!("{} of {} questions", count(samples), count(planned)),
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

    /// Renders the main results.
    pub(super) fn overview(&self) -> Markup {
        let records = &self.records;
        let mut list = Vec::new();
        match (self.best(), records.evals.last()) {
            (Some(best), Some(last)) => list.extend(self.quality_tiles(best, last)),
            _ => list.push(Tile::new("Quality", "n/a".to_owned(), "no evaluation yet".to_owned())),
        }
        if !records.train.is_empty() {
            list.extend(self.training_tiles());
        }
        html! {
            (tiles(&list))
            @if records.damaged > 0 {
                p.warning {
                    "metrics.jsonl has " (count(records.damaged as u64)) @if records.damaged == 1 { " line" } @else { " lines" }
                    " that cannot be read, for example because the run was killed; the page omits them."
                }
            }
            @if !records.evals.is_empty() { (self.evaluations()) }
        }
    }

    fn training_tiles(&self) -> Vec<Tile> {
        let records = &self.records;
        let tail: Vec<f64> = records.train.iter().rev().filter_map(|train| train.value("loss")).take(TAIL).collect();
        let loss = tail.iter().sum::<f64>() / tail.len() as f64;
        let last = records.train.last();
        let mut tiles = vec![
            Tile::new("Loss", number::value(loss), format!("mean of the last {} log lines", tail.len())),
            Tile::new(
                "Questions seen",
                count(records.samples()),
                match last.and_then(|train| train.value("epoch")) {
                    Some(epoch) => format!("{epoch:.2} epochs, {} steps", count(records.step())),
                    None => format!("{} steps", count(records.step())),
                },
            ),
        ];
        let seconds = records.training_seconds();
        if seconds > 0.0 {
            let evaluating: f64 = records.evals.iter().filter_map(|eval| eval.value("seconds")).sum();
            let beside = if evaluating > 0.0 { format!("and {} evaluating", duration(evaluating)) } else { String::new() };
            tiles.push(Tile::new("Training time", duration(seconds), beside));
            let speed = last.map_or(0, |train| train.samples) as f64 / seconds;
            let tokens: Vec<f64> = records.train.iter().filter_map(|train| train.value("tokens_per_second")).collect();
            let mean = tokens.iter().sum::<f64>() / tokens.len().max(1) as f64;
            let note = if tokens.is_empty() { String::new() } else { format!("{} tokens/s", count(mean.round() as u64)) };
            tiles.push(Tile::new(
                "Speed",
                format!("{} /s", number::value((10.0 * speed).round() / 10.0)),
                format!("questions; {note}"),
            ));
        }
        let skipped =
            last.and_then(|train| train.value("skipped")).map_or(0, |skipped| skipped as u64).max(records.skipped.len() as u64);
        if skipped > 0 {
            tiles.push(Tile::new("Skipped steps", count(skipped), "loss or gradient not finite".to_owned()));
        }
        tiles
    }

    fn evaluations(&self) -> Markup {
        let infos = self.metrics();
        let mut columns = vec![("step", Column::Number), ("samples seen", Column::Number)];
        columns.extend(infos.iter().map(|info| (info.label, Column::Number)));
        columns.push(("duration", Column::Number));
        let row = |eval: &Entry| {
            let mut row = vec![text(count(eval.step)), text(count(eval.samples))];
            row.extend(infos.iter().map(|info| text(shown(info, eval))));
            row.push(text(duration(eval.value("seconds").unwrap_or(f64::NAN))));
            row
        };
        let rows: Vec<_> = self.records.evals.iter().map(row).collect();
        html! {
            details {
                summary { "Evaluations as a table (" (count(rows.len() as u64)) ")" }
                (table("Evaluations", &columns, &rows))
            }
        }
    }

    /// Returns tiles with the best and the last value of the metric that selects checkpoints, then the other metrics.
    fn quality_tiles(&self, best: &Entry, last: &Entry) -> Vec<Tile> {
        let Some(first) = self.selected() else { return Vec::new() };
        let totals = |eval: &Entry| {
            let totals = self.metrics().iter().filter(|info| info.role == Role::Total);
            totals.map(|info| format!("{} {}, ", info.label, shown(info, eval))).collect::<String>()
        };
        let at = |eval: &Entry| format!("{}step {}", totals(eval), count(eval.step));
        let mut tiles = vec![Tile::new(&format!("Best {}", first.label), shown(first, best), at(best))];
        if last.step != best.step {
            tiles.push(Tile::new(&format!("Last {}", first.label), shown(first, last), at(last)));
        }
        let others = self.metrics().iter().filter(|info| info.name != first.name && info.role != Role::Total);
        tiles.extend(others.map(|info| {
            let eval = if info.role == Role::Baseline { last } else { best };
            Tile::new(info.label, shown(info, eval), info.meaning.to_owned())
        }));
        tiles
    }

    /// Renders data set, weights, devices and start times.
    pub(super) fn facts(&self) -> Markup {
        let [newest, best] = self.checkpoints;
        let step = |step: Option<u64>| text(step.map_or_else(|| "none".to_owned(), |step| format!("step {}", count(step))));
        let mut list = vec![("Latest checkpoint", step(newest)), ("Best checkpoint", step(best))];
        if let Some(Session { data, fingerprint, init, parameters, train_questions, val_questions, .. }) = self.sessions.last()
        {
            let questions =
                format!("{} to train on, {} to evaluate on", count(*train_questions as u64), count(*val_questions as u64));
            list.extend([
                ("Data set", html! { code { (data.display()) } }),
                ("Fingerprint", html! { code { (fingerprint) } }),
                ("Questions", text(questions)),
                ("Initial weights", html! { code { (init.as_deref().unwrap_or("default of the preset")) } }),
                ("Parameters", text(count(*parameters as u64))),
            ]);
        }
        let row = |(number, session): (usize, &Session)| {
            vec![
                text(if number == 0 { "started" } else { "resumed" }),
                text(moment(session.time)),
                text(count(session.step)),
                text(&session.device),
                text(format!("{:?}", session.precision).to_lowercase()),
                text(count(session.ranks as u64)),
            ]
        };
        let rows: Vec<_> = self.sessions.iter().enumerate().map(row).collect();
        let columns = [
            ("", Column::Text),
            ("when", Column::Number),
            ("at step", Column::Number),
            ("device", Column::Text),
            ("precision", Column::Text),
            ("processes", Column::Number),
        ];
        html! {
            (facts(&list))
            @if rows.is_empty() {
                p.note { "Start times and devices are unknown: sessions.jsonl, which earlier versions did not write, "
                    "is missing." }
            } @else {
                (table("Starts of the run", &columns, &rows))
            }
        }
    }
}

/// Returns the value of a metric with its unit.
pub(super) fn shown(info: &MetricInfo, eval: &Entry) -> String {
    eval.value(info.name).map_or_else(|| "n/a".to_owned(), |value| info.format(value))
}
