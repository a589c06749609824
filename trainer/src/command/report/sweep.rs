//! A seed sweep: runs that differ in their random seed only, their median and the best of them.
//!
//! The folder of a sweep contains a folder `seed-N` per run, and [`SEEDS_FILE`]. The result of a run is its best evaluation, by the metric
//! that selects checkpoints: published results are chosen so.

use std::fmt;
use std::path::{Path, PathBuf};

use glm_support::page::document::{Document, folder_name};
use glm_support::page::line_chart::{LineChart, Series, Shape};
use glm_support::page::number::count;
use glm_support::page::table::{Column, Tile, table, text, tiles};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::measurement::Measurement;
use super::overview::shown;
use super::records::Entry;
use super::{Known, REPORT_FILE, ReportError};
use crate::task::metrics::{MetricInfo, Role, Selection, Unit};

/// Name of the file in the folder of a sweep.
pub const SEEDS_FILE: &str = "seeds.json";

/// Folder of the run with this seed.
pub fn run_folder(sweep: &Path, seed: u64) -> PathBuf {
    sweep.join(folder_of(seed))
}

fn folder_of(seed: u64) -> String {
    format!("seed-{seed}")
}

/// The runs of a sweep and what they have reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepSummary {
    /// The seeds, in order.
    pub seeds: Vec<u64>,
    /// Name of the metric that selects the best checkpoint of each run, and the best run.
    pub metric: Option<&'static str>,
    /// Median of this metric over the runs that were evaluated; with an even number of them the mean of the two in the middle.
    pub median: Option<f64>,
    /// Seed of the best run, the first of equal ones.
    pub best_seed: Option<u64>,
    /// The runs that were evaluated.
    pub runs: Vec<SeedResult>,
    #[serde(skip)]
    info: Option<&'static MetricInfo>,
}

/// Best evaluation of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeedResult {
    /// Seed of the run.
    pub seed: u64,
    /// Name of the run's folder in that of the sweep.
    pub run: String,
    /// Step and metrics.
    #[serde(flatten)]
    pub best: Measurement,
}

/// The part of [`SEEDS_FILE`] that is read.
#[derive(Debug, Deserialize)]
struct Seeds {
    seeds: Vec<u64>,
}

/// Returns the seeds of the sweep in a folder; `None` if there is none.
pub fn seeds(folder: &Path) -> Option<Vec<u64>> {
    let text = std::fs::read(folder.join(SEEDS_FILE)).ok()?;
    serde_json::from_slice(&text).ok().map(|Seeds { seeds }| seeds)
}

/// The runs of a sweep.
pub(super) struct Sweep {
    folder: PathBuf,
    seeds: Vec<u64>,
    /// Those that were started.
    runs: Vec<(u64, Known)>,
}

impl Sweep {
    /// Reads the runs with these seeds.
    ///
    /// # Errors
    /// [`ReportError`] if a run cannot be read.
    pub(super) fn read(folder: &Path, seeds: &[u64]) -> Result<Self, ReportError> {
        let mut runs = Vec::new();
        for &seed in seeds {
            match Known::read(&run_folder(folder, seed)) {
                Ok(known) => runs.push((seed, known)),
                Err(ReportError::NoFolder { .. } | ReportError::NotARun { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { folder: folder.to_owned(), seeds: seeds.to_vec(), runs })
    }

    /// The metric that selects checkpoints.
    fn selected(&self) -> Option<&'static MetricInfo> {
        self.runs.iter().find_map(|(_, known)| known.selected())
    }

    /// Median and best run.
    pub(super) fn summary(&self) -> SweepSummary {
        let info = self.selected();
        let selection = info.and_then(|info| Selection::of(&[info]));
        let result = |(seed, known): &(u64, Known)| {
            let best = known.measurement(known.best()?);
            let value = best.metrics.get(info?.name)?;
            Some((value, SeedResult { seed: *seed, run: folder_of(*seed), best }))
        };
        let (values, runs): (Vec<f64>, Vec<SeedResult>) = self.runs.iter().filter_map(result).unzip();
        let mut best: Option<usize> = None;
        for (i, value) in values.iter().enumerate() {
            if best.zip(selection).is_none_or(|(best, selection)| selection.improves(*value, values[best])) {
                best = Some(i);
            }
        }
        SweepSummary {
            seeds: self.seeds.clone(),
            metric: info.map(|info| info.name),
            median: median(&values),
            best_seed: best.map(|best| runs[best].seed),
            runs,
            info,
        }
    }

    /// Renders the page, and those of the runs beside their files.
    ///
    /// # Errors
    /// [`ReportError`] if a page of a run cannot be written.
    pub(super) fn page(&self, data: Option<&Path>) -> Result<Document, ReportError> {
        for (_, known) in &self.runs {
            known.page(data).write(&known.folder.join(REPORT_FILE))?;
        }
        let summary = self.summary();
        let lead = html! { p { (text(summary.status())) } };
        let mut page = Document::new("Seed sweep", folder_name(&self.folder), lead);
        page.section("result", "Result", self.overview(&summary));
        if let Some(info) = summary.info {
            page.section("charts", "Charts", self.chart(info));
        }
        Ok(page)
    }

    fn overview(&self, summary: &SweepSummary) -> Markup {
        let Some(info) = summary.info else { return html! { p { "No run has been evaluated yet." } } };
        let evaluated = format!("of the best evaluations of {} runs", summary.runs.len());
        let mut main = Vec::new();
        main.extend(
            summary.median.map(|median| Tile::new(&format!("Median {}", info.label), info.format(median), evaluated.clone())),
        );
        let best = summary.best().and_then(|best| Some((best, best.best.metrics.get(info.name)?)));
        main.extend(best.map(|(best, value)| {
            let note = format!("seed {}, step {}", best.seed, count(best.best.step));
            Tile::new(&format!("Best {}", info.label), info.format(value), note)
        }));
        html! {
            (tiles(&main, &[]))
            (self.table())
        }
    }

    fn table(&self) -> Markup {
        let Some((_, first)) = self.runs.first() else { return html! {} };
        let infos: Vec<_> = first.metrics().iter().filter(|info| info.role != Role::Total).collect();
        let mut columns = vec![("seed", Column::Text), ("step", Column::Number)];
        columns.extend(infos.iter().map(|info| (info.label, Column::Number)));
        let row = |(seed, known): &(u64, Known)| {
            let link = format!("{}/{REPORT_FILE}", folder_of(*seed));
            let best: Option<&Entry> = known.best();
            let mut row = vec![html! { a href=(link) { (seed) } }];
            row.push(text(best.map_or_else(|| "n/a".to_owned(), |best| count(best.step))));
            row.extend(infos.iter().map(|info| text(best.map_or_else(|| "n/a".to_owned(), |best| shown(info, best)))));
            row
        };
        let rows: Vec<_> = self.runs.iter().map(row).collect();
        table("Best evaluation of each run", &columns, &rows)
    }

    fn chart(&self, info: &'static MetricInfo) -> Markup {
        let (factor, unit) = if info.unit == Unit::Share { (100.0, " %") } else { (1.0, "") };
        let series = self.runs.iter().map(|(seed, known)| {
            let points = known.records.metric_line(info.name, known.words().evaluated);
            let points = points.into_iter().map(|(step, value)| (step, factor * value)).collect();
            Series { name: format!("seed {seed}"), points, shape: Shape::Line }
        });
        let last = self.runs.iter().map(|(_, known)| known.records.step()).max().unwrap_or(0);
        let chart = LineChart {
            id: "quality",
            title: &format!("{} of each run", info.label),
            x: "step",
            unit,
            log: false,
            x_range: Some((0.0, last as f64)),
            series: series.filter(|series| !series.points.is_empty()).collect(),
            marks: Vec::new(),
            note: "",
            empty: "No evaluation yet.",
        };
        html! { div.charts { (chart.render()) } }
    }
}

impl SweepSummary {
    /// Reads the runs of a sweep.
    ///
    /// # Errors
    /// [`ReportError`] if a run cannot be read.
    pub fn read(folder: &Path, seeds: &[u64]) -> Result<Self, ReportError> {
        Ok(Sweep::read(folder, seeds)?.summary())
    }

    /// The best run.
    pub fn best(&self) -> Option<&SeedResult> {
        self.runs.iter().find(|run| Some(run.seed) == self.best_seed)
    }

    /// Says how many runs there are.
    fn status(&self) -> String {
        match (self.runs.len(), self.seeds.len()) {
            (some, all) if some < all => format!("{some} of {all} runs have been evaluated."),
            (_, 1) => "One run.".to_owned(),
            (_, all) => format!("{all} runs that differ in their seed only."),
        }
    }
}

impl fmt::Display for SweepSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(info) = self.info else { return f.write_str("no run has been evaluated") };
        let value = |run: &SeedResult| run.best.metrics.get(info.name).map_or_else(String::new, |value| info.format(value));
        write!(f, "{} of {} seeds", info.label, self.runs.len())?;
        if let (Some(median), Some(best)) = (self.median, self.best()) {
            write!(f, ": median {}, best {} (seed {})", info.format(median), value(best), best.seed)?;
        }
        for run in &self.runs {
            write!(f, "\n  seed {}: {} at step {}", run.seed, value(run), run.best.step)?;
        }
        Ok(())
    }
}

/// Median; with an even number of values the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (_, None) => None,
        (1, Some(&value)) => Some(value),
        (_, Some(&upper)) => Some((sorted[middle - 1] + upper) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glm_support::files::atomic;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[0.3]), Some(0.3));
        assert_eq!(median(&[0.9, 0.1, 0.5]), Some(0.5));
        assert_eq!(median(&[0.75, 0.25, 0.5, 1.0]), Some(0.625));
    }

    #[test]
    fn the_result_of_a_run_is_its_best_evaluation() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |seed: u64, lines: &[(u64, f64)]| {
            let run = run_folder(folder.path(), seed);
            std::fs::create_dir_all(&run).expect("folder");
            let line = |(step, accuracy): &(u64, f64)| {
                format!(r#"{{"kind":"eval","step":{step},"samples":{step},"accuracy":{accuracy},"questions":4}}"#) + "\n"
            };
            let text: String = lines.iter().map(line).collect();
            atomic::write(&run.join("metrics.jsonl"), |file| file.write_all(text.as_bytes())).expect("write");
        };
        write(1, &[(10, 0.25), (20, 0.5)]);
        write(2, &[(10, 0.75), (20, 0.25)]);
        write(4, &[(10, 0.75)]);
        let summary = SweepSummary::read(folder.path(), &[1, 2, 3, 4]).expect("runs");
        assert_eq!((summary.median, summary.best_seed, summary.runs.len()), (Some(0.75), Some(2), 3));
        assert_eq!(
            summary.to_string(),
            "accuracy of 3 seeds: median 75.00 %, best 75.00 % (seed 2)\n  seed 1: 50.00 % at step 20\n  \
             seed 2: 75.00 % at step 10\n  seed 4: 75.00 % at step 10"
        );
        assert_eq!(summary.status(), "3 of 4 runs have been evaluated.");
    }
}
