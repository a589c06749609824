//! One optimizer step: forward and backward over its batches, then the update.

use tch::{Kind, TchError, Tensor, no_grad};

use crate::config::{Config, Precision};
use crate::data::feed::DeviceStep;
use crate::data::key::mix;
use crate::model::cloze::{choice_scores, loss_sum};
use crate::model::{Glm, Pass};
use crate::optim::adamw::{AdamW, StepRates};
use crate::optim::clip::global_norm;
use crate::optim::control::{Report, StepControl};
use crate::optim::loss_scale::LossScale;

/// A model and what trains it.
#[derive(Debug)]
pub struct Stepper {
    /// The model.
    pub model: Glm,
    /// The optimizer.
    pub optimizer: AdamW,
    control: StepControl,
    pass: Pass,
}

impl Stepper {
    /// For a run that has completed `step` steps and stands at `scaling`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(
        model: Glm,
        optimizer: AdamW,
        config: &Config,
        precision: Precision,
        step: u64,
        scaling: LossScale,
    ) -> Result<Self, TchError> {
        let device = model.parameters().device();
        let control = StepControl::new(config.schedule(), config.optim.clip, scaling, step, device)?;
        let pass = Pass { kind: precision.kind(), dropout: Some(config.train.seed), kernels: config.train.kernels };
        Ok(Self { model, optimizer, control, pass })
    }

    /// How batches are computed.
    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Whether batches need a padded view.
    pub fn needs_padded_view(&self) -> bool {
        !self.model.is_fused(&self.pass)
    }

    /// Forward, backward and update. A gradient that is not finite skips the update and does not advance the schedule. On a
    /// GPU all of this is only asked for when it returns; the report tells of it later.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn step(&mut self, step: &DeviceStep) -> Result<Report, TchError> {
        let loss = accumulate_gradients(&self.model, step, &self.pass, Some(&self.control))?;
        let norm = global_norm(self.model.parameters())?;
        let decision = self.control.decide(&norm, &loss)?;
        let rates = StepRates { lr: &decision.lr, gradient_divisor: &decision.gradient_divisor, skip: &decision.skip };
        self.optimizer.step(self.model.parameters(), &rates)?;
        Ok(decision.report)
    }
}

/// Forward and backward over a step's batches: leaves the gradient of the mean loss a question in the parameters, times the
/// loss scale of `control` if there is one, and returns that mean loss, without the scale, as one number on the device.
///
/// # Errors
/// A [`TchError`], for example out of memory.
pub fn accumulate_gradients(
    model: &Glm,
    step: &DeviceStep,
    pass: &Pass,
    control: Option<&StepControl>,
) -> Result<Tensor, TchError> {
    model.parameters().zero_grad()?;
    let mut loss = Tensor::f_zeros([1; 0], (Kind::Double, model.parameters().device()))?;
    for batch in &step.batches {
        if let Some(seed) = pass.dropout
            && !model.is_fused(pass)
        {
            // libtorch's generator depends on where the run stands and on nothing that happened before, so a resumed run
            // repeats it. Fused operations draw by keys and need no generator.
            let first = batch.host.row_key.first().copied().unwrap_or_default();
            tch::manual_seed(mix(seed ^ first) as i64);
        }
        let scores = choice_scores(model, batch, pass)?;
        let mean = loss_sum(&scores, batch)?.f_div_scalar(step.questions as f64)?;
        match control {
            Some(control) => control.scale_loss(&mean)?.f_backward()?,
            None => mean.f_backward()?,
        }
        no_grad(|| loss.f_add_(&mean.f_detach()?.f_totype(Kind::Double)?).map(drop))?;
    }
    Ok(loss)
}
