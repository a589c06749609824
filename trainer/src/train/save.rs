//! Checkpoints of a run.

use std::time::Instant;

use super::{Run, TrainError};
use crate::distributed::Phase;
use crate::record::progress::Progress;
use crate::train::step::Stepper;

impl Run {
    /// Starts writing a checkpoint, on rank 0 or on all ranks, unless there is one of this state. The best checkpoint so far is marked.
    pub(super) fn save(&mut self, progress: &Progress) -> Result<(), TrainError> {
        self.publish_phase(Phase::Checkpoint);
        let start = Instant::now();
        let is_best = match (&self.state.latest, &self.state.best) {
            (Some(latest), Some(best)) if latest.metric == best.metric => {
                self.selection().is_some_and(|metric| metric.improves(latest.value, best.value))
            }
            // Also after another metric was chosen for the rest of a run.
            (latest, _) => latest.is_some(),
        };
        if is_best {
            self.state.best = self.state.latest.clone();
        }
        self.state.optimizer_steps = self.stepper.optimizer.steps()?;
        if self.saved.as_ref() == Some(&self.state) {
            return Ok(());
        }
        if let Some(records) = &mut self.records {
            records.follow(progress, true);
            // Before the ranks wait for each other, so that all of them can write to it.
            records.checkpoints.begin(self.state.step);
        }
        if let Some(world) = &self.world {
            world.check_weights(self.stepper.model.parameters(), self.state.step)?;
        }
        self.saved = Some(self.state.clone());
        let Stepper { model, optimizer, .. } = &self.stepper;
        if let Some(parts) = &mut self.parts {
            parts.wait();
            let (snapshot, _) = self.snapshots.take(model, optimizer, self.state.clone(), Vec::new())?;
            return Ok(parts.start(snapshot)?);
        }
        let Some(records) = &mut self.records else { return Ok(()) };
        let metrics = records.metrics.lines().to_vec();
        let (snapshot, before_update) = self.snapshots.take(model, optimizer, self.state.clone(), metrics)?;
        self.stepper.update_after(before_update);
        Ok(records.checkpoints.start(snapshot, is_best, start)?)
    }
}
