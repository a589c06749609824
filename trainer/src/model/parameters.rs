//! Named parameters of a model, their initialization, and the flat buffers that hold them.

mod gradients;

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use libtorch_ext::distributed::ProcessGroup;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::copies::Copies;
use super::divided::{BlockWeights, DividedWeights, Division, GradientUnit, Run, runs};
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
    /// Gradients by unit, if ranks divide them or the values.
    units: Vec<GradientUnit>,
    /// Sums of this rank's part of the gradients, if ranks divide them.
    totals: Option<Tensor>,
    /// Values of which this rank holds a part, if ranks divide them.
    divided: Option<DividedWeights>,
    /// Each parameter takes a multiple of this number of elements of the flat buffers.
    multiple: i64,
    /// Kind of the matrices of blocks, if they are held in another one.
    held: Option<Kind>,
    /// True while the gradients are known to be zero.
    cleared: Cell<bool>,
    copies: OnceCell<Copies>,
}

impl Parameters {
    /// Creates an empty set of parameters with the given kind ([`Kind::Float`] for training) and device.
    pub fn new(kind: Kind, device: Device) -> Self {
        let (values, gradients, cleared, copies) = (Tensor::new(), Tensor::new(), Cell::new(false), OnceCell::new());
        Self {
            named: Vec::new(),
            kind,
            device,
            groups: Vec::new(),
            values,
            gradients,
            units: Vec::new(),
            totals: None,
            divided: None,
            multiple: 1,
            held: None,
            cleared,
            copies,
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
        self.copies = OnceCell::new();
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
        self.copies = OnceCell::new();
        Ok(())
    }

    /// Initializes the parameters in the order in which they were added.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn draw(&self) -> Result<(), TchError> {
        self.named.iter().try_for_each(Parameter::draw)
    }

    fn runs(&self) -> Vec<Run> {
        runs(&self.named, &self.places(), |parameter| self.taken(parameter))
    }

    /// Divides values among the ranks of a group instead of [`Self::flatten`], see [`DividedWeights`]. Rank 0 has them in `values`, laid
    /// out like the flat buffers; the others pass `None`.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or if another rank failed or timed out.
    pub fn divide(&mut self, values: Option<&Tensor>, group: &ProcessGroup, division: Division) -> Result<(), TchError> {
        let (runs, options) = (self.runs(), (self.kind, self.device));
        let divided = DividedWeights::new(values, runs, &mut self.named, options, group, division)?;
        if let Some(kind) = division.half() {
            let views = divided.views().map(|(index, view)| (&self.named[index].tensor, view));
            let _new = self.copies.set(Copies::new(kind, None, views));
        }
        self.divided = Some(divided);
        Ok(())
    }

    /// Values of which this rank holds a part, if ranks divide them.
    pub fn divided(&self) -> Option<&DividedWeights> {
        self.divided.as_ref()
    }

    /// The matrices of a block, if there is memory for them in its passes only.
    pub fn temporary_weights(&self, block: usize) -> Option<BlockWeights> {
        self.divided.as_ref()?.block(block)
    }

    /// Copies all values to the host, by index of the parameter. If ranks divide them, all ranks call it together, and those that do not
    /// `keep` the copies get nothing.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or if another rank failed or timed out.
    pub fn copy(&self, keep: bool) -> Result<Vec<(usize, Tensor)>, TchError> {
        match &self.divided {
            Some(divided) => divided.copy(&self.named, keep),
            None if keep => {
                let copy = no_grad(|| self.values.f_to_device_(Device::Cpu, self.kind, false, true))?;
                Ok(self.unflatten(&copy)?.into_iter().enumerate().collect())
            }
            None => Ok(Vec::new()),
        }
    }

    /// Number of elements of the flat buffers to which weight decay applies, which come first.
    pub fn decayed(&self) -> usize {
        self.named.iter().filter(|parameter| parameter.decay).map(|parameter| self.taken(parameter) as usize).sum()
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

    /// Copy of a parameter in another kind, in which matrix products read it. All parameters are copied on the first call; afterwards the
    /// optimizer keeps the copies up to date ([`Self::cast_values`]).
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory; another kind than that of the copies is one.
    pub fn cast(&self, parameter: &Tensor, kind: Kind) -> Result<&Tensor, TchError> {
        if let Some(copies) = self.copies.get() {
            return copies.get(parameter, kind);
        }
        let (values, views) = match self.held {
            Some(_) => {
                let views = self.named.iter().map(|parameter| parameter.tensor.f_detach()?.f_totype(kind));
                (None, views.collect::<Result<_, _>>()?)
            }
            None => {
                // A copy even if it is the same kind, which tests compute in.
                let values = no_grad(|| self.values.f_to_device_(self.device, kind, false, true))?;
                let views = self.unflatten(&values)?;
                (Some(values), views)
            }
        };
        let named = self.named.iter().map(|parameter| &parameter.tensor);
        self.copies.get_or_init(|| Copies::new(kind, values, named.zip(views))).get(parameter, kind)
    }

    /// What passes in this kind read in place of a parameter: its copy in this kind if there are copies, else the parameter itself.
    ///
    /// # Errors
    /// A [`TchError`] if the parameter is divided and its copy has another kind.
    pub fn computed<'a>(&'a self, parameter: &'a Tensor, kind: Kind) -> Result<&'a Tensor, TchError> {
        match self.copies.get() {
            Some(copies) if copies.kind() == kind || self.divided.is_some() => copies.get(parameter, kind),
            _ => Ok(parameter),
        }
    }

    /// Kind of the copies, if there are any; see [`Self::cast`].
    pub fn copied(&self) -> Option<Kind> {
        self.copies.get().map(Copies::kind)
    }

    /// The copies of all values as one vector, if they are one; see [`Self::cast`].
    pub fn cast_values(&self) -> Option<&Tensor> {
        self.copies.get().and_then(Copies::values)
    }

    /// Handles to the copies of the values, for a backward pass: a set of parameters that has nothing else.
    #[must_use]
    pub(super) fn share_copies(&self) -> Self {
        let shared = Self::new(self.kind, self.device);
        if let Some(copies) = self.copies.get() {
            let _new = shared.copies.set(copies.share());
        }
        shared
    }
}
