//! One optimizer step: forward and backward over its batches, then the update.

use std::rc::Rc;

use libtorch_ext::distributed::Reducer;
use tch::{Kind, TchError, Tensor, no_grad};

use crate::batch::key::mix;
use crate::config::Config;
use crate::data::feed::DeviceStep;
use crate::device::Precision;
use crate::distributed::{Phase, World};
use crate::model::cloze::{choice_scores, loss_sum};
use crate::model::parameters::Parameters;
use crate::model::{Glm, Pass};
use crate::optim::adamw::{AdamW, StepRates};
use crate::optim::clip::global_norm;
use crate::optim::control::{ControlState, Report, StepControl};

/// A model and what trains it.
#[derive(Debug)]
pub struct Stepper {
    // Its hooks are on the model's parameters, so it goes first.
    ranks: Option<Ranks>,
    /// The model.
    pub model: Glm,
    /// The optimizer.
    pub optimizer: AdamW,
    control: StepControl,
    pass: Pass,
    /// Steps asked for, skipped ones included.
    steps: u64,
}

/// The other ranks, whose gradients are added to this one's.
#[derive(Debug)]
struct Ranks {
    reducer: Reducer,
    world: Rc<World>,
}

impl Stepper {
    /// For a run that stands at `standing`; with other ranks if there is a `world`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(
        model: Glm,
        optimizer: AdamW,
        config: &Config,
        precision: Precision,
        standing: ControlState,
        world: Option<Rc<World>>,
    ) -> Result<Self, TchError> {
        let device = model.parameters().device();
        let control = StepControl::new(config.schedule(), config.optim.max_grad_norm, config.spikes(), standing, device)?;
        let pass = Pass { kind: precision.kind(), dropout: Some(config.train.seed), kernels: config.train.kernels };
        let ranks = match world {
            Some(world) => Some(Ranks { reducer: world.reducer(model.parameters())?, world }),
            None => None,
        };
        Ok(Self { ranks, model, optimizer, control, pass, steps: standing.step })
    }

    /// How batches are computed.
    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Whether batches need a padded view.
    pub fn needs_padded_view(&self) -> bool {
        !self.model.is_fused(&self.pass)
    }

    /// Forward, backward and update. A loss or gradient that is not finite, or a spike where the settings say so, skips the
    /// update and does not advance the schedule. On a GPU all of this is only asked for when it returns; the report tells of it later.
    ///
    /// With several ranks, each brings its own batches of the step. Losses and gradients are sums over all of them, divided by
    /// the questions of all, so every question weighs the same whoever has it; and as norm and update are computed from the
    /// same bits on all ranks, all have the same weights behind it. `stop`, whether this rank was asked to stop, is told to
    /// all by the report.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or where another rank is gone.
    pub fn step(&mut self, step: &DeviceStep, stop: bool) -> Result<Report, TchError> {
        let (model, pass, control, number) = (&self.model, &self.pass, Some(&self.control), self.steps);
        self.steps += 1;
        let mut told = match &mut self.ranks {
            None => accumulate_gradients(model, step, pass, control, None)?,
            Some(Ranks { reducer, world }) => {
                world.set_phase(number, Phase::Compute);
                let mut reduce = |loss: &Tensor| {
                    world.set_phase(number, Phase::Reduce);
                    reducer.backward(loss)
                };
                accumulate_gradients(model, step, pass, control, Some(&mut reduce))?
            }
        };
        told = Tensor::f_stack(&[&told, &told.f_full_like(f64::from(u8::from(stop)))?], 0)?;
        if let Some(Ranks { world, .. }) = &self.ranks {
            world.sum(&mut told)?;
            world.set_phase(number, Phase::Outcome);
        }
        let norm = global_norm(self.model.parameters())?;
        let decision = self.control.decide(&norm, &told)?;
        let rates = StepRates { lr: &decision.lr, gradient_divisor: &decision.gradient_divisor, skip: &decision.skip };
        self.optimizer.step(self.model.parameters(), &rates)?;
        Ok(decision.report)
    }
}

/// Does a backward pass that also adds the gradients of other ranks.
pub type ReducingBackward<'a> = &'a mut dyn FnMut(&Tensor) -> Result<(), TchError>;

/// Forward and backward over a step's batches: leaves the gradient of the mean loss a question in the parameters, times the
/// loss scale of `control` if there is one, and returns that mean loss, without the scale, as one number on the device.
///
/// With several ranks, the mean is over the questions of all, the loss this rank's part of it, and the backward pass of the
/// last batch is `reduce`'s: those before it only add up on this rank.
///
/// # Errors
/// A [`TchError`], for example out of memory.
pub fn accumulate_gradients(
    model: &Glm,
    step: &DeviceStep,
    pass: &Pass,
    control: Option<&StepControl>,
    mut reduce: Option<ReducingBackward<'_>>,
) -> Result<Tensor, TchError> {
    model.parameters().zero_grad()?;
    let mut loss = Tensor::f_zeros([1; 0], (Kind::Double, model.parameters().device()))?;
    for (batch, left) in step.batches.iter().zip((0..step.batches.len()).rev()) {
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
        let scaled = match control {
            Some(control) => control.scale_loss(&mean)?,
            None => mean.shallow_clone(),
        };
        match &mut reduce {
            Some(reduce) if left == 0 => reduce(&scaled)?,
            _ => scaled.f_backward()?,
        }
        no_grad(|| loss.f_add_(&mean.f_detach()?.f_totype(Kind::Double)?).map(drop))?;
    }
    if let Some(reduce) = reduce
        && step.batches.is_empty()
    {
        reduce(&nothing(model.parameters())?)?;
    }
    Ok(loss)
}

/// A loss whose gradient is zero for every parameter: what a rank without questions adds to those of the others, who count on
/// every rank's part.
fn nothing(parameters: &Parameters) -> Result<Tensor, TchError> {
    let mut sum = Tensor::f_zeros([1; 0], (parameters.kind(), parameters.device()))?;
    for parameter in parameters.iter() {
        sum = sum.f_add(&parameter.tensor.f_sum(parameters.kind())?.f_mul_scalar(0.0)?)?;
    }
    Ok(sum)
}
