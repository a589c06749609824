//! Progress display: a progress bar and short lines on a terminal, detailed lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use glm_support::page::number::duration;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::checkpoint::background::Written;
use crate::checkpoint::run_folder::RunState;
use crate::config::plan::Plan;
use crate::record::metrics::{EvalRecord, TrainRecord};
use crate::task::Words;
use crate::task::metrics::Evaluation;

/// Progress display on stderr.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    shown: bool,
    plan: Plan,
    start: Instant,
    /// Samples used before the start.
    before: u64,
    words: Words,
}

impl Progress {
    /// Creates the display of a run of this length whose state is `state`. If `shown` is false, nothing is displayed or logged.
    pub fn new(plan: Plan, state: &RunState, words: Words, shown: bool) -> Self {
        let bar = match shown && std::io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(Some(plan.samples), ProgressDrawTarget::stderr()),
            false => ProgressBar::hidden(),
        };
        let template = format!("{{wide_bar}} {{human_pos}}/{{human_len}} {}{{msg}}, {{eta}} left", words.samples);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_position(state.samples);
        bar.reset_eta();
        Self { bar, shown, plan, start: Instant::now(), before: state.samples, words }
    }

    /// Moves the bar to `samples` samples.
    pub fn advance(&self, samples: u64) {
        self.bar.set_position(samples);
    }

    /// Logs a train record.
    pub fn train(&self, record: &TrainRecord) {
        if self.is_on_a_terminal() {
            self.bar.set_message(format!(", {}", bar_text(record)));
            self.line(&short_train_line(record, self.words));
        } else {
            let left = seconds_left(self.plan.samples, self.before, record.samples, self.start.elapsed());
            self.line(&train_line(record, self.words, self.plan.steps, left));
        }
        if record.skipped > 0 {
            self.line(&format!("{} steps skipped so far, loss scale {:e}", record.skipped, record.loss_scale));
        }
    }

    /// Logs an evaluation; `count` is the number of rows if they are not all.
    pub fn evaluation(&self, record: &EvalRecord, count: Option<usize>) {
        if self.is_on_a_terminal() {
            self.line(&short_evaluation_line(record));
        } else {
            self.line(&evaluation_line(record, self.words, count));
        }
    }

    /// Logs a written checkpoint.
    pub fn checkpoint(&self, written: &Written) {
        let Written { path, writing, held_up } = written;
        let (writing, held_up) = (writing.as_secs_f64(), held_up.as_secs_f64());
        match path.file_name() {
            // The run folder was logged at the start.
            Some(name) if self.is_on_a_terminal() => {
                let name = name.to_string_lossy();
                self.line(&format!("checkpoint {name}: blocked {held_up:.2} s, written in {writing:.2} s"));
            }
            _ => self.line(&format!(
                "checkpoint {}: training blocked for {held_up:.2} s, written in {writing:.2} s (background)",
                path.display()
            )),
        }
    }

    /// Removes the progress bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Logs a warning.
    pub fn warning(&self, text: &str) {
        self.aside(|| tracing::warn!("{text}"));
    }

    /// Logs a debug message.
    pub fn detail(&self, text: &str) {
        self.aside(|| tracing::debug!("{text}"));
    }

    fn is_on_a_terminal(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Logs a line.
    pub fn line(&self, text: &str) {
        self.aside(|| tracing::info!("{text}"));
    }

    fn aside(&self, tell: impl FnOnce()) {
        if self.shown {
            self.bar.suspend(tell);
        }
    }
}

/// Estimates the rest of a run from the speed since its start, with evaluations and checkpoints.
fn seconds_left(planned: u64, before: u64, samples: u64, elapsed: Duration) -> f64 {
    let (done, left) = (samples.saturating_sub(before).max(1), planned.saturating_sub(samples));
    elapsed.as_secs_f64() * left as f64 / done as f64
}

/// Formats a train record for a log file, with all details.
fn train_line(record: &TrainRecord, words: Words, steps: u64, seconds_left: f64) -> String {
    let TrainRecord { step, samples, epoch, loss, lr, gradient_norm, .. } = record;
    let spread = match record.ranks {
        1 => String::new(),
        ranks => format!(", {ranks} ranks, the busiest {:.1} % above the mean", 100.0 * record.rank_spread),
    };
    let word = words.samples;
    let predicted = match record.targets_per_second {
        Some(targets) => format!(" ({targets:.0} of them predicted)"),
        None => String::new(),
    };
    format!(
        "step {step}/{steps}, {samples} {word}, epoch {epoch:.2}: loss {loss:.4}, lr {lr:.2e}, gradient norm \
         {gradient_norm:.2}, {:.1} {word}/s, {:.0} tokens/s{predicted}, {}, waiting for data {:.1} %{spread}, {} left",
        record.samples_per_second,
        record.tokens_per_second,
        flops_text(record),
        100.0 * record.data_wait,
        duration(seconds_left),
    )
}

/// Formats the speed of the model: "85.3 GFLOP/s (MFU 41 %)".
fn flops_text(record: &TrainRecord) -> String {
    let utilisation = record.utilisation.map_or_else(String::new, |share| format!(" (MFU {:.0} %)", 100.0 * share));
    match record.model_flops_per_second {
        flops if flops < 1e12 => format!("{:.1} GFLOP/s{utilisation}", flops / 1e9),
        flops => format!("{:.1} TFLOP/s{utilisation}", flops / 1e12),
    }
}

/// Formats what the progress bar shows of a train record: "300000 tokens/s, MFU 41 %".
fn bar_text(record: &TrainRecord) -> String {
    let speed = match record.utilisation {
        Some(share) => format!("MFU {:.0} %", 100.0 * share),
        None => flops_text(record),
    };
    format!("{:.0} tokens/s, {speed}", record.tokens_per_second)
}

/// Formats a train record for a terminal of 80 columns, after time and level; the progress bar shows the rest.
fn short_train_line(record: &TrainRecord, words: Words) -> String {
    let TrainRecord { step, loss, lr, gradient_norm, .. } = record;
    let wait = match record.data_wait {
        wait if wait < 0.01 => String::new(),
        wait => format!(", waiting {:.0} %", 100.0 * wait),
    };
    let speed = record.samples_per_second;
    let digits = if speed < 10.0 { 2 } else { 0 };
    let word = words.samples;
    format!("step {step}: loss {loss:.3}, lr {lr:.1e}, norm {gradient_norm:.2}, {speed:.digits$} {word}/s{wait}")
}

/// Formats all metrics of an evaluation in one line.
fn evaluation_line(record: &EvalRecord, words: Words, count: Option<usize>) -> String {
    let EvalRecord { step, split_rows, evaluation: Evaluation { metrics, seconds }, .. } = record;
    let texts = metrics.iter().map(|(info, value)| format!("{} {}", info.label, info.format(value)));
    let of = count.map_or_else(String::new, |count| format!(" of {count} of {} {}", split_rows.count, words.rows));
    format!("step {step}, evaluation{of} in {seconds:.1} s: {}", texts.collect::<Vec<_>>().join(", "))
}

/// Formats an evaluation for a terminal.
fn short_evaluation_line(record: &EvalRecord) -> String {
    format!("step {}: {}", record.step, record.evaluation.metrics.summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::metrics::SplitRows;
    use crate::task::cloze::{Cloze, ClozeForm, ClozeSettings, Truncation};
    use crate::task::{Task, words_of};
    use glm_schemas::manifest::TaskName;
    use glm_schemas::vocab::SpecialIds;

    /// Columns left of 80 after time and level.
    const ROOM: usize = 80 - "0:00:00  INFO ".len();

    fn record() -> TrainRecord {
        TrainRecord {
            step: 43_380,
            samples: 1_388_160,
            epoch: 1.5,
            loss: 1.234_56,
            lr: 1.06e-5,
            gradient_norm: 12.346,
            loss_scale: 1.0,
            skipped: 0,
            samples_per_second: 1234.4,
            tokens_per_second: 300_000.0,
            targets_per_second: None,
            padding: 0.0,
            model_flops_per_second: 1e14,
            product_flops_per_second: None,
            utilisation: None,
            peak_memory_bytes: None,
            data_wait: 0.001,
            ranks: 1,
            rank_spread: 0.0,
        }
    }

    #[test]
    fn lines_fit_a_terminal() {
        let line = short_train_line(&record(), words_of(TaskName::Cloze));
        assert_eq!(line, "step 43380: loss 1.235, lr 1.1e-5, norm 12.35, 1234 questions/s");
        assert!(line.len() <= ROOM, "{line}");
        let slow = TrainRecord { samples_per_second: 0.352, data_wait: 0.25, ..record() };
        assert!(short_train_line(&slow, words_of(TaskName::Cloze)).ends_with("0.35 questions/s, waiting 25 %"));
        let totals = vec![1234.0, 10_000.0, 5000.0, 2500.0, 1234.0, 2000.0].into();
        let metrics =
            Cloze::new(SpecialIds::BERT_UNCASED, 512, Truncation::Choice, ClozeSettings::default(), ClozeForm::default())
                .evaluator()
                .metrics(&totals);
        let record = EvalRecord {
            step: 43_380,
            samples: 1,
            split_rows: SplitRows { count: 20_000, word: "questions" },
            evaluation: Evaluation { metrics, seconds: 1.25 },
        };
        let line = short_evaluation_line(&record);
        assert_eq!(line, "step 43380: accuracy 12.34 % (1234 of 10000), chance 12.3 %");
        assert!(line.len() <= ROOM, "{line}");
        let line = evaluation_line(&record, words_of(TaskName::Cloze), None);
        assert!(
            line.starts_with("step 43380, evaluation in 1.2 s: accuracy 12.34 %, hits 1234, questions 10000, F1 50.00 %"),
            "{line}"
        );
        assert!(
            evaluation_line(&record, words_of(TaskName::Cloze), Some(10_000))
                .contains("evaluation of 10000 of 20000 questions in 1.2 s")
        );
    }

    #[test]
    fn lines_have_operations_per_second_and_utilization() {
        let line = train_line(&record(), words_of(TaskName::Cloze), 40, 0.0);
        assert!(line.contains(", 300000 tokens/s, 100.0 TFLOP/s, waiting"), "{line}");
        assert_eq!(bar_text(&record()), "300000 tokens/s, 100.0 TFLOP/s");
        let known = TrainRecord { model_flops_per_second: 8.53e10, utilisation: Some(0.414), ..record() };
        let line = train_line(&known, words_of(TaskName::Text), 40, 0.0);
        assert!(line.contains(", 85.3 GFLOP/s (MFU 41 %), waiting"), "{line}");
        assert_eq!(bar_text(&known), "300000 tokens/s, MFU 41 %");
    }

    #[test]
    fn lines_of_a_log_have_total_and_time_left() {
        let record = TrainRecord { step: 10, samples: 300, ..record() };
        let line = train_line(&record, words_of(TaskName::Cloze), 40, seconds_left(1200, 0, 300, Duration::from_secs(4)));
        assert!(line.starts_with("step 10/40, 300 questions, epoch 1.50: ") && line.ends_with(", 12 s left"), "{line}");
        // After a resumption, the speed is that of the new steps.
        assert_eq!(seconds_left(1200, 200, 300, Duration::from_secs(2)), 18.0);
        assert_eq!(seconds_left(1200, 200, 1300, Duration::from_secs(2)), 0.0);
    }
}
