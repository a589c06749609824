//! Evaluation of a run's weights during training, and the metric that selects the best checkpoint.
//!
//! With `train.eval_questions`, evaluations use a random subset of the rows, always the same. The one at the end of a run uses
//! all. The metric that selects the best checkpoint and is compared with the target is that of the subset in every evaluation, the
//! last one included, so that its values can be compared.

use std::sync::Arc;

use super::evaluate::{EvaluationConfig, Outcome, evaluate, evaluate_all};
use super::{Run, TrainError};
use crate::data::pack::Packer;
use crate::distributed::Phase;
use crate::record::answers::Answers;
use crate::record::metrics::{EvalRecord, Record, SplitRows};
use crate::record::progress::Progress;
use crate::task::Purpose;
use crate::task::metrics::{Measured, Selection};

impl Run {
    /// Number of questions of an evaluation during training; `None` for all.
    pub(super) fn subset(&self) -> Option<usize> {
        let all = self.val_data.as_ref().map_or(0, |data| data.rows());
        Some(self.config.train.eval_questions).filter(|count| (1..all).contains(count))
    }

    /// Evaluates the current weights on `count` questions, or on all.
    pub(super) fn evaluate(&mut self, count: Option<usize>, progress: &Progress) -> Result<(), TrainError> {
        self.publish_phase(Phase::Evaluation);
        self.state.evaluated_at = Some(self.state.samples);
        if count.is_none() {
            self.state.evaluated_all_at = self.state.evaluated_at;
        }
        let Some(data) = &self.val_data else { return Ok(()) };
        let packer = Packer { purpose: Purpose::Evaluate, ..self.packer.clone() };
        let task = Arc::clone(&packer.task);
        let tokenizer = self.tokenizer.clone();
        let config = EvaluationConfig { packer, tokenizer, ..EvaluationConfig::new(&self.config, task, self.device()) };
        let (world, split) = (self.world.as_deref(), data.split());
        let mut answers = Answers::default();
        let mut add = |outcome: Outcome<'_>| {
            if let Outcome::Answer(answer) = outcome {
                answers.add(answer);
            }
        };
        let model = &self.stepper.model;
        let divided = model.parameters().divided();
        divided.map_or(Ok(()), |weights| weights.keep_whole(true))?;
        let (evaluation, metrics) = match (count, self.subset()) {
            (None, Some(_)) => evaluate_all(model, data, &config, world, &mut add)?,
            (count, _) => {
                let config = EvaluationConfig { limit: count.unwrap_or(0), ..config };
                let evaluation = evaluate(model, data, &config, world, &mut add)?;
                let metrics = evaluation.metrics.clone();
                (evaluation, metrics)
            }
        };
        divided.map_or(Ok(()), |weights| weights.keep_whole(false))?;
        let answers = answers.gathered(world)?;
        self.state.latest = self
            .selection()
            .and_then(|Selection { metric, .. }| Some(Measured { metric: metric.to_owned(), value: metrics.get(metric)? }));
        if count.is_none() {
            self.final_metrics = Some(evaluation.metrics.clone());
        }
        let split_rows = SplitRows { count: data.rows(), word: self.packer.task.words().rows };
        let record = EvalRecord { step: self.state.step, samples: self.state.samples, split_rows, evaluation };
        if let Some(records) = self.records.as_ref().filter(|_| !answers.is_empty()) {
            records.write_answers(answers, &record, split);
        }
        progress.evaluation(&record, count);
        self.write(&Record::Eval(record));
        Ok(())
    }

    /// The metric that selects the best checkpoint.
    pub(super) fn selection(&self) -> Option<Selection> {
        Selection::of(&self.packer.task.metrics())
    }

    /// Returns true if the latest evaluation is that of the current weights.
    pub(super) fn was_evaluated(&self) -> bool {
        self.state.evaluated_at == Some(self.state.samples)
    }

    /// Returns true if the latest evaluation is that of the current weights on all questions.
    pub(super) fn was_evaluated_on_all(&self) -> bool {
        match self.subset() {
            None => self.was_evaluated(),
            Some(_) => self.state.evaluated_all_at == Some(self.state.samples),
        }
    }

    /// Returns true if the latest evaluation has reached the target.
    pub(super) fn reaches_target(&self) -> bool {
        let target = self.config.train.target_metric;
        let reaches = |latest: &Measured| self.selection().is_some_and(|selection| selection.reaches(latest.value, target));
        target > 0.0 && self.state.latest.as_ref().is_some_and(reaches)
    }
}
