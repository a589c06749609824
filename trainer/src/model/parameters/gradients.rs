//! Gradients of parameters: one buffer, or one vector for each run of parameters if ranks divide them.

use libtorch_ext::autograd::set_gradient;
use libtorch_ext::memory::release;
use tch::{TchError, Tensor, no_grad};

use super::{GradientUnit, Parameters, Run};

impl Parameters {
    /// Allocates the buffer of gradients, filled with zeros, after [`Self::flatten`] or [`Self::divide`]. Only training needs it.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn alloc_grads(&mut self) -> Result<(), TchError> {
        if let Some(kind) = self.held {
            return Err(TchError::Kind(format!("weights that are held in {kind:?} cannot be trained")));
        }
        self.gradients = Tensor::f_zeros([self.count()], (self.kind, self.device))?;
        for (parameter, view) in self.named.iter().zip(&self.unflatten(&self.gradients)?) {
            set_gradient(&parameter.tensor, view)?;
        }
        let mut first = 0;
        for group in &mut self.groups {
            let count = group.values.numel() as i64;
            group.gradients = self.gradients.f_narrow(0, first, count)?;
            first += count;
        }
        self.units.clear();
        if self.divided.is_some() {
            let unit = |run: Run| {
                let gradients = self.gradients.f_narrow(0, run.place.start, run.place.end - run.place.start)?;
                Ok(GradientUnit { gradients, temporary: false })
            };
            self.units = self.runs().into_iter().map(unit).collect::<Result<_, TchError>>()?;
        }
        Ok(())
    }

    /// Allocates gradients for ranks that divide them: of the matrices of a block only while a backward pass is there, and this rank's
    /// part of the sums, [`Self::totals`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn alloc_divided_grads(&mut self, ranks: usize) -> Result<(), TchError> {
        let options = (self.kind, self.device);
        self.totals = Some(Tensor::f_zeros([self.count() / ranks as i64], options)?);
        self.units.clear();
        for run in self.runs() {
            let gradients = Tensor::f_zeros([run.place.end - run.place.start], options)?;
            for (index, view) in run.views(&gradients, &self.named)? {
                set_gradient(&self.named[index].tensor, &view)?;
            }
            if run.is_block {
                // SAFETY: a backward pass allocates it before it writes gradients, and nothing else uses it.
                unsafe { release(&gradients) }?;
            }
            self.units.push(GradientUnit { gradients, temporary: run.is_block });
        }
        Ok(())
    }

    /// Gradients by unit, if ranks divide them or the values: then they have parts of these units.
    pub fn units(&self) -> &[GradientUnit] {
        &self.units
    }

    /// Gradients of the matrices of a block, if there is memory for them in its backward pass only.
    pub fn temporary_gradients(&self, block: usize) -> Option<&Tensor> {
        self.units.iter().filter(|unit| unit.temporary).nth(block).map(|unit| &unit.gradients)
    }

    /// Sums of this rank's part of the gradients, if ranks divide them.
    pub fn totals(&self) -> Option<&Tensor> {
        self.totals.as_ref()
    }

    /// Gradients of all parameters as one vector; empty before [`Self::alloc_grads`].
    pub fn gradients(&self) -> &Tensor {
        &self.gradients
    }

    /// Notes that the optimizer has set all gradients to zero.
    pub fn gradients_are_zero(&self) {
        self.cleared.set(true);
    }

    /// Sets all gradients to zero, before a backward pass adds to them.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn zero_grad(&self) -> Result<(), TchError> {
        if self.totals.is_some() {
            let mut kept = self.units.iter().filter(|unit| !unit.temporary);
            return no_grad(|| kept.try_for_each(|unit| unit.gradients.shallow_clone().f_zero_().map(drop)));
        }
        if self.cleared.replace(false) {
            return Ok(());
        }
        no_grad(|| self.gradients.shallow_clone().f_zero_().map(drop))
    }
}
