//! Named parameters of a model, their initialization, and the flat buffers that hold them.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::ops::Range;

use libtorch_ext::autograd::set_gradient;
use libtorch_ext::memory::release;
use tch::{Device, Kind, TchError, Tensor, no_grad};

pub use super::parameter::{BLOCKS, Init, Parameter};

/// Slice of the flat buffers that one call of the optimizer updates; tensors have shape `[n]`.
#[derive(Debug)]
pub struct Group {
    /// Concatenated values.
    pub values: Tensor,
    /// Concatenated gradients; empty before [`Parameters::alloc_grads`].
    pub gradients: Tensor,
    /// True if weight decay applies.
    pub decay: bool,
}

/// All parameters of a model, in the order in which the layers added them.
///
/// [`Self::flatten`] moves all values to one flat buffer, parameters with weight decay first, and [`Self::alloc_grads`] allocates
/// another one for the gradients; the parameters are views of them. So the gradient norm and the optimizer step are one pass over
/// memory each.
#[derive(Debug)]
pub struct Parameters {
    named: Vec<Parameter>,
    kind: Kind,
    device: Device,
    groups: Vec<Group>,
    values: Tensor,
    gradients: Tensor,
    /// Gradients by unit, if ranks divide them.
    units: Vec<GradientUnit>,
    /// Sums of this rank's part of the gradients, if ranks divide them.
    totals: Option<Tensor>,
    /// Each parameter takes a multiple of this number of elements of the flat buffers.
    multiple: i64,
    /// Kind of the matrices of blocks, if they are held in another one.
    held: Option<Kind>,
    /// True while the gradients are known to be zero.
    cleared: Cell<bool>,
    cast: OnceCell<Cast>,
}

/// Gradients of a run of parameters as one vector.
#[derive(Debug)]
pub struct GradientUnit {
    /// The gradients.
    pub gradients: Tensor,
    /// True if there is memory for them in the backward pass only.
    pub temporary: bool,
}

/// Copy of all values in another kind.
#[derive(Debug)]
struct Cast {
    values: Tensor,
    /// Views of the copy by the address of the parameter.
    views: HashMap<usize, Tensor>,
}

impl Parameters {
    /// Creates an empty set of parameters with the given kind ([`Kind::Float`] for training) and device.
    pub fn new(kind: Kind, device: Device) -> Self {
        let (values, gradients, cleared, cast) = (Tensor::new(), Tensor::new(), Cell::new(false), OnceCell::new());
        Self {
            named: Vec::new(),
            kind,
            device,
            groups: Vec::new(),
            values,
            gradients,
            units: Vec::new(),
            totals: None,
            multiple: 1,
            held: None,
            cleared,
            cast,
        }
    }

    /// Makes each parameter take a multiple of this number of elements of the flat buffers, so that ranks can divide any run of parameters
    /// into equal parts. The elements between parameters are zero. Call it before [`Self::flatten`].
    pub fn make_divisible(&mut self, multiple: usize) {
        self.multiple = multiple.max(1) as i64;
    }

    /// Holds the matrices of blocks in this kind only, for computations in it without training: neither in 32 bits nor in a copy. Call it
    /// before [`Self::flatten`].
    pub fn hold_matrices(&mut self, kind: Kind) {
        self.held = (kind != self.kind).then_some(kind);
    }

    /// Adds a parameter and returns a handle to it, which is empty before [`Self::flatten`].
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn add(&mut self, name: String, shape: &[i64], init: Init) -> Result<Tensor, TchError> {
        let tensor = Tensor::f_empty([0], (self.kind, self.device))?.f_set_requires_grad(true)?;
        let handle = tensor.shallow_clone();
        self.named.push(Parameter { name, tensor, decay: shape.len() > 1, init, shape: shape.to_vec() });
        Ok(handle)
    }

    /// Allocates the buffer of values and makes the parameters views of it. The values are uninitialized until they are drawn
    /// ([`Self::draw`]) or loaded.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn flatten(&mut self) -> Result<(), TchError> {
        if let Some(kind) = self.held {
            return self.flatten_held(kind);
        }
        let options = (self.kind, self.device);
        let values = match self.multiple {
            1 => Tensor::f_empty([self.count()], options)?,
            _ => Tensor::f_zeros([self.count()], options)?,
        };
        self.groups.clear();
        let mut first = 0;
        for decay in [true, false] {
            let of_group = self.named.iter().filter(|parameter| parameter.decay == decay);
            let count = of_group.map(|parameter| self.taken(parameter)).sum();
            let values = values.f_narrow(0, first, count)?;
            self.groups.push(Group { values, gradients: Tensor::f_empty([0], (self.kind, self.device))?, decay });
            first += count;
        }
        let views = self.unflatten(&values)?;
        self.values = values;
        self.cast = OnceCell::new();
        // Handles stay valid: only the memory of the variables changes.
        no_grad(|| self.named.iter_mut().zip(&views).try_for_each(|(parameter, view)| parameter.tensor.f_set_data(view)))
    }

    /// As [`Self::flatten`], in two buffers.
    fn flatten_held(&mut self, kind: Kind) -> Result<(), TchError> {
        let mut values = Vec::with_capacity(2);
        for (is_matrix, kind) in [(false, self.kind), (true, kind)] {
            let of_buffer = |parameter: &&mut Parameter| parameter.is_matrix_of_block() == is_matrix;
            let count: i64 = self.named.iter_mut().filter(of_buffer).map(|parameter| parameter.count()).sum();
            let buffer = Tensor::f_empty([count], (kind, self.device))?;
            let mut next = 0;
            for parameter in self.named.iter_mut().filter(of_buffer) {
                let view = buffer.f_narrow(0, next, parameter.count())?.f_view(&parameter.shape[..])?;
                next += parameter.count();
                no_grad(|| parameter.tensor.f_set_data(&view))?;
            }
            values.push(buffer);
        }
        self.values = values.swap_remove(0);
        self.cast = OnceCell::new();
        Ok(())
    }

    /// Initializes the parameters in the order in which they were added.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn draw(&self) -> Result<(), TchError> {
        self.named.iter().try_for_each(Parameter::draw)
    }

    /// Allocates the buffer of gradients, filled with zeros, after [`Self::flatten`]. Only training needs it.
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
        let places = self.places();
        let mut order: Vec<usize> = (0..self.named.len()).collect();
        order.sort_by_key(|&index| places[index].start);
        for unit in order.chunk_by(|&one, &other| self.named[one].unit() == self.named[other].unit()) {
            let Some(&first) = unit.first() else { continue };
            let count = unit.iter().map(|&index| self.taken(&self.named[index])).sum::<i64>();
            let gradients = Tensor::f_zeros([count], options)?;
            for &index in unit {
                let parameter = &self.named[index];
                let start = places[index].start - places[first].start;
                let view = gradients.f_narrow(0, start, parameter.count())?.f_view(&parameter.shape[..])?;
                set_gradient(&parameter.tensor, &view)?;
            }
            let temporary = self.named[first].is_matrix_of_block();
            if temporary {
                // SAFETY: a backward pass allocates it before it writes gradients, and nothing else uses it.
                unsafe { release(&gradients) }?;
            }
            self.units.push(GradientUnit { gradients, temporary });
        }
        Ok(())
    }

    /// Gradients by unit, if ranks divide them.
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

    /// Elements of the flat buffers.
    fn count(&self) -> i64 {
        self.named.iter().map(|parameter| self.taken(parameter)).sum()
    }

    /// Elements that a parameter takes of the flat buffers.
    fn taken(&self, parameter: &Parameter) -> i64 {
        (parameter.count() + self.multiple - 1) / self.multiple * self.multiple
    }

    /// Iterates over the parameters in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.named.iter()
    }

    /// Groups of the flat buffers: with weight decay, then without.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Gradients of all parameters as one vector; empty before [`Self::alloc_grads`].
    pub fn gradients(&self) -> &Tensor {
        &self.gradients
    }

    /// Splits a vector laid out like the flat buffers into views with the shapes of the parameters, in their order.
    ///
    /// # Errors
    /// A [`TchError`] if the vector is too short.
    pub fn unflatten(&self, vector: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let places = self.places().into_iter().zip(&self.named);
        places
            .map(|(place, parameter)| vector.f_narrow(0, place.start, parameter.count())?.f_view(&parameter.shape[..]))
            .collect()
    }

    /// Places of the parameters in the flat buffers, in the order of the parameters.
    pub fn places(&self) -> Vec<Range<i64>> {
        let mut next = 0;
        let mut places = vec![0..0; self.named.len()];
        for decay in [true, false] {
            for (parameter, place) in self.named.iter().zip(&mut places).filter(|(parameter, _)| parameter.decay == decay) {
                *place = next..next + parameter.count();
                next += self.taken(parameter);
            }
        }
        places
    }

    /// Values of all parameters as one vector.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Returns true if there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Kind of the master copies.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Device of the parameters.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Copy of a parameter in another kind, in which matrix products read it. All parameters are copied on the first call;
    /// afterwards the optimizer keeps the copy up to date ([`Self::cast_values`]), and whatever else changes values must call
    /// [`Self::forget_cast`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory; another kind than that of the copy is one.
    pub fn cast(&self, parameter: &Tensor, kind: Kind) -> Result<&Tensor, TchError> {
        let cast = match self.cast.get() {
            Some(cast) => cast,
            None => {
                let (values, views) = match self.held {
                    Some(_) => {
                        let views = self.named.iter().map(|parameter| parameter.tensor.f_detach()?.f_totype(kind));
                        (Tensor::f_empty([0], (kind, self.device))?, views.collect::<Result<_, _>>()?)
                    }
                    None => {
                        // A copy even if it is the same kind, which tests compute in.
                        let values = no_grad(|| self.values.f_to_device_(self.device, kind, false, true))?;
                        let views = self.unflatten(&values)?;
                        (values, views)
                    }
                };
                let address = |parameter: &Parameter| parameter.tensor.data_ptr() as usize;
                let views = self.named.iter().map(address).zip(views).collect();
                self.cast.get_or_init(|| Cast { values, views })
            }
        };
        let found = cast.values.f_kind()?;
        if found != kind {
            return Err(TchError::Kind(format!("weights were copied in {found:?}, not in {kind:?}")));
        }
        let missing = || TchError::Shape("a tensor that is not a parameter of this model".to_owned());
        cast.views.get(&(parameter.data_ptr() as usize)).ok_or_else(missing)
    }

    /// The copies of all values as one vector, if there are any; see [`Self::cast`].
    pub fn cast_values(&self) -> Option<&Tensor> {
        self.cast.get().map(|cast| &cast.values)
    }

    /// Handles to the copies of the values, for a backward pass: a set of parameters that has nothing else.
    #[must_use]
    pub(super) fn share_cast(&self) -> Self {
        let shared = Self::new(self.kind, self.device);
        if let Some(Cast { values, views }) = self.cast.get() {
            let views = views.iter().map(|(address, view)| (*address, view.shallow_clone())).collect();
            let _new = shared.cast.set(Cast { values: values.shallow_clone(), views });
        }
        shared
    }

    /// Drops the copies of the values.
    pub fn forget_cast(&mut self) {
        self.cast = OnceCell::new();
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
            let kept = self.units.iter().filter(|unit| !unit.temporary);
            return no_grad(|| kept.map(|unit| unit.gradients.shallow_clone().f_zero_().map(drop)).collect());
        }
        if self.cleared.replace(false) {
            return Ok(());
        }
        no_grad(|| self.gradients.shallow_clone().f_zero_().map(drop))
    }
}
