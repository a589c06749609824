//! One optimizer step: forward and backward pass over its batches, then the update.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use libtorch_ext::distributed::Reducer;
use libtorch_ext::stream::{Event, Stream};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::config::{Config, ShardKind};
use crate::data::feed::DeviceStep;
use crate::device::Precision;
use crate::distributed::{Phase, World};
use crate::model::ops::clock::{Stage, timed};
use crate::model::parameters::Parameters;
use crate::model::{Backend, Glm, Pass, matmul_flops};
use crate::optim::adamw::{AdamW, StepRates};
use crate::optim::clip::squared_norm_of;
use crate::optim::control::{ControlState, Report, StepControl};
use crate::optim::shard::Shard;
use crate::task::Task;

/// A model, its task and its optimizer.
#[derive(Debug)]
pub struct Stepper {
    // Dropped first, because its hooks are on the model's parameters.
    ranks: Option<Ranks>,
    /// Training objective.
    task: Arc<dyn Task>,
    /// The model.
    pub model: Glm,
    /// The optimizer.
    pub optimizer: AdamW,
    control: StepControl,
    pass: Pass,
    /// Number of steps so far, including skipped ones.
    steps: u64,
    /// See [`Self::update_after`].
    before_update: Option<Event>,
}

/// The other ranks, whose gradients are added to those of this rank.
#[derive(Debug)]
pub struct Ranks {
    reducer: Reducer,
    world: Rc<World>,
}

impl Ranks {
    /// Connects the gradients of a model on all ranks, which call it together.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn new(world: Rc<World>, parameters: &Parameters) -> Result<Self, TchError> {
        Ok(Self { reducer: world.reducer(parameters)?, world })
    }

    /// The part of the optimizer state that this rank holds.
    pub fn shard(&self, parameters: &Parameters) -> Shard {
        match self.world.shard_kind() {
            ShardKind::None => Shard::whole(parameters),
            _ => Shard::of_rank(parameters, self.reducer.slices(), self.world.rank(), self.world.size()),
        }
    }

    /// Gives every rank the parts of the weights that the others have updated.
    fn exchange(&self, shard: &Shard, parameters: &Parameters) -> Result<(), TchError> {
        if let Some(divided) = parameters.divided() {
            return divided.refresh(|whole, own| self.world.queue_gather(whole, own));
        }
        let part = |range: &Range<i64>| parameters.values().f_narrow(0, range.start, range.end - range.start);
        for piece in shard.pieces() {
            self.world.queue_gather(&mut part(&piece.slice)?, &part(&piece.place)?)?;
        }
        match parameters.cast_values() {
            Some(cast) => no_grad(|| cast.shallow_clone().f_copy_(parameters.values()).map(drop)),
            None => Ok(()),
        }
    }
}

impl Stepper {
    /// Continues from `state`; with the other ranks, if any, which may hold parts of the optimizer's state. A model in fp64, as in
    /// comparisons with double precision, is trained in fp64 whatever the `precision`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(
        task: Arc<dyn Task>,
        model: Glm,
        optimizer: AdamW,
        config: &Config,
        precision: Precision,
        state: ControlState,
        ranks: Option<Ranks>,
    ) -> Result<Self, TchError> {
        let device = model.parameters().device();
        let control = StepControl::new(config.schedule(), config.optim.max_grad_norm, config.spikes(), state, device)?;
        let kind = if model.parameters().kind() == Kind::Double { Kind::Double } else { precision.kind() };
        let pass = Pass { kind, dropout: Some(config.train.seed), kernels: config.train.kernels };
        Ok(Self { ranks, task, model, optimizer, control, pass, steps: state.step, before_update: None })
    }

    /// Number of steps so far, including skipped ones and those that a GPU has not done yet.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Settings of the forward pass.
    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Implementation of the model's operations; batches must have its layout.
    pub fn backend(&self) -> Backend {
        self.model.backend(&self.pass)
    }

    /// Measures a matrix product, with which the speed of the model is compared. `None` if that fails, and for fp16 on a CPU, where
    /// one product takes seconds.
    pub fn matmul_flops(&self) -> Option<f64> {
        let (kind, device) = (self.pass.kind, self.model.parameters().device());
        let is_fast = kind != Kind::Half || device.is_cuda();
        is_fast.then(|| matmul_flops(self.model.config(), kind, device).ok()).flatten()
    }

    /// Makes the next update wait for an event on another stream of the GPU, if any: until then, weights and moments are read.
    pub fn update_after(&mut self, event: Option<Event>) {
        self.before_update = event;
    }

    /// Computes forward pass, backward pass and update. A loss or gradient that is not finite, or a spike with
    /// `train.skip_on_spike`, skips the update and does not advance the schedule. On a GPU the operations are only queued when
    /// this returns, those that wait for other ranks too; the report has the outcome later.
    ///
    /// With several ranks, each has its own batches of the step. Losses and gradients are sums over all ranks, divided by the
    /// weight of all samples, so every sample weighs the same on whichever rank it is. Norm and update are computed from the
    /// same bits on all ranks, so all have the same weights afterwards. `stop`, true if this rank was asked to stop, reaches all
    /// ranks through the report.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or where another rank is gone.
    pub fn step(&mut self, step: &DeviceStep, stop: bool) -> Result<Report, TchError> {
        let (number, control) = (self.steps, Some(&self.control));
        let learner = Learner { task: &*self.task, model: &self.model, pass: &self.pass };
        self.steps += 1;
        let mut metrics = match &mut self.ranks {
            None => learner.accumulate_gradients(step, control, None)?,
            Some(Ranks { reducer, world }) => {
                world.set_phase(number, Phase::Compute);
                let passes = match self.model.parameters().totals() {
                    Some(totals) => {
                        no_grad(|| totals.shallow_clone().f_zero_().map(drop))?;
                        world.set_phase(number, Phase::Reduce);
                        let of_ranks = world.gather(&[step.batches.len() as f64])?;
                        world.set_phase(number, Phase::Compute);
                        Some(of_ranks.iter().flatten().fold(0.0, |most: f64, &passes| most.max(passes)) as usize)
                    }
                    None => None,
                };
                let mut reduce = |loss: Option<&Tensor>| {
                    world.set_phase(number, Phase::Reduce);
                    match loss {
                        Some(loss) => reducer.backward(loss),
                        None => self.model.idle_pass(reducer),
                    }
                };
                learner.accumulate_gradients(step, control, Some(Reduction { backward: &mut reduce, passes }))?
            }
        };
        let device = self.model.parameters().device();
        let squares = || timed(Stage::Norm, device, || squared_norm_of(self.optimizer.shard(), self.model.parameters()));
        let is_sharded = self.optimizer.shard().ranks() > 1;
        metrics = Tensor::f_stack(&[&metrics, &metrics.f_full_like(f64::from(u8::from(stop)))?], 0)?;
        let mut norm = squares()?;
        if let Some(Ranks { world, .. }) = &self.ranks {
            // In one vector, so that ranks wait for each other once. Without shards, all of them have the same norm.
            let mut sums = if is_sharded { Tensor::f_cat(&[&metrics, &norm.f_reshape([1])?], 0)? } else { metrics };
            world.queue_sum(&mut sums)?;
            world.set_phase(number, Phase::Outcome);
            metrics = sums.f_narrow(0, 0, 2)?;
            if is_sharded {
                norm = sums.f_select(0, 2)?;
            }
        }
        let norm = norm.f_sqrt()?;
        let decision = self.control.decide(&norm, &metrics)?;
        let rates = StepRates { lr: &decision.lr, gradient_divisor: &decision.gradient_divisor, skip: &decision.skip };
        if let (Some(event), Device::Cuda(index)) = (self.before_update.take(), self.model.parameters().device()) {
            event.block(&Stream::current(index)?)?;
        }
        timed(Stage::Optimizer, device, || self.optimizer.step(self.model.parameters(), &rates))?;
        if let Some(ranks) = self.ranks.as_ref().filter(|_| is_sharded) {
            ranks.exchange(self.optimizer.shard(), self.model.parameters())?;
        }
        Ok(decision.report)
    }
}

/// Backward pass of a loss, if there is one, that also adds the gradients of other ranks.
pub type ReducingBackward<'a> = &'a mut dyn FnMut(Option<&Tensor>) -> Result<(), TchError>;

/// Reduction of the gradients of a step over all ranks.
pub struct Reduction<'a> {
    /// The backward pass that reduces.
    pub backward: ReducingBackward<'a>,
    /// The largest number of batches of any rank, if every batch is reduced; `None` if the gradients of all batches are reduced with those
    /// of the last one.
    pub passes: Option<usize>,
}

/// A model with its task and the settings of its forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Learner<'a> {
    /// Training objective.
    pub task: &'a dyn Task,
    /// The model.
    pub model: &'a Glm,
    /// Settings of the forward pass.
    pub pass: &'a Pass,
}

impl Learner<'_> {
    /// Forward and backward pass over a step's batches: leaves the gradient of the mean loss in the parameters, times the loss
    /// scale of `control` if there is one, and returns the mean loss, without the scale, as a scalar on the device.
    ///
    /// With several ranks, the mean is over the samples of all, the returned loss is this rank's part of it, and the backward
    /// pass of the last batch reduces; the ones before it only accumulate on this rank, unless all of them reduce. A rank that has no batch
    /// when others have reduces without a loss, because they wait for its part.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn accumulate_gradients(
        &self,
        step: &DeviceStep,
        control: Option<&StepControl>,
        mut reduce: Option<Reduction<'_>>,
    ) -> Result<Tensor, TchError> {
        let parameters = self.model.parameters();
        parameters.zero_grad()?;
        let mut loss = Tensor::f_zeros([1; 0], (Kind::Double, parameters.device()))?;
        let each = reduce.as_ref().is_some_and(|reduce| reduce.passes.is_some());
        for (batch, left) in step.batches.iter().zip((0..step.batches.len()).rev()) {
            if each {
                parameters.zero_grad()?;
            }
            let log_probs = self.model.smoothed_log_probs(batch, self.pass, self.task.label_smoothing())?;
            let mean = self.task.loss(&log_probs, batch)?.f_div_scalar(step.weight.max(f64::MIN_POSITIVE))?;
            let scaled = match control {
                Some(control) => control.scale_loss(&mean)?,
                None => mean.shallow_clone(),
            };
            match &mut reduce {
                Some(reduce) if left == 0 || each => (reduce.backward)(Some(&scaled))?,
                _ => scaled.f_backward()?,
            }
            no_grad(|| loss.f_add_(&mean.f_detach()?.f_totype(Kind::Double)?).map(drop))?;
        }
        if let Some(Reduction { backward, passes }) = reduce {
            for _ in step.batches.len()..passes.unwrap_or(1) {
                if each {
                    parameters.zero_grad()?;
                }
                backward(None)?;
            }
        }
        Ok(loss)
    }
}
