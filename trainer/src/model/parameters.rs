//! Named parameters of a model, their initialization, and the flat buffers that hold them.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;

use libtorch_ext::autograd::set_gradient;
use tch::{Device, Kind, TchError, Tensor, no_grad};

/// Initialization of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal distribution with mean 0 and the given standard deviation.
    Normal(f64),
    /// All ones.
    Ones,
    /// All zeros.
    Zeros,
}

/// Parameter: a leaf tensor of the autograd graph that accumulates its gradient.
#[derive(Debug)]
pub struct Parameter {
    /// Name, as in the published weights.
    pub name: String,
    /// Values (master copy).
    pub tensor: Tensor,
    /// True if weight decay applies: for weights and embeddings, not for biases and LayerNorm parameters.
    pub decay: bool,
    init: Init,
    shape: Vec<i64>,
}

impl Parameter {
    /// Sizes, outermost dimension first.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    fn count(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Initializes the values. Normal values are drawn on the CPU in fp32 for every kind and device, so that a seed gives the
    /// same values everywhere.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn draw(&self) -> Result<(), TchError> {
        no_grad(|| self.fill())
    }

    fn fill(&self) -> Result<(), TchError> {
        let mut values = self.tensor.shallow_clone();
        let _filled = match self.init {
            Init::Normal(std) if (values.kind(), values.device()) == (Kind::Float, Device::Cpu) => {
                values.f_normal_(0.0, std)?
            }
            Init::Normal(std) => {
                let drawn = Tensor::f_empty(&self.shape[..], (Kind::Float, Device::Cpu))?.f_normal_(0.0, std)?;
                values.f_copy_(&drawn)?;
                values
            }
            Init::Ones => values.f_fill_(1.0)?,
            Init::Zeros => values.f_zero_()?,
        };
        Ok(())
    }
}

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
    /// True while the gradients are known to be zero.
    cleared: Cell<bool>,
    cast: OnceCell<Cast>,
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
        Self { named: Vec::new(), kind, device, groups: Vec::new(), values, gradients, cleared, cast }
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
        let values = Tensor::f_empty([self.count()], (self.kind, self.device))?;
        self.groups.clear();
        let mut first = 0;
        for decay in [true, false] {
            let count = self.named.iter().filter(|parameter| parameter.decay == decay).map(Parameter::count).sum();
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

    fn count(&self) -> i64 {
        self.named.iter().map(Parameter::count).sum()
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
        let mut next = 0;
        let mut views: Vec<Option<Tensor>> = self.named.iter().map(|_| None).collect();
        for decay in [true, false] {
            for (parameter, view) in self.named.iter().zip(&mut views).filter(|(parameter, _)| parameter.decay == decay) {
                let count = parameter.count();
                *view = Some(vector.f_narrow(0, next, count)?.f_view(&parameter.shape[..])?);
                next += count;
            }
        }
        Ok(views.into_iter().flatten().collect())
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
                // A copy even if it is the same kind, which tests compute in.
                let values = no_grad(|| self.values.f_to_device_(self.device, kind, false, true))?;
                let views = self.unflatten(&values)?;
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
        if self.cleared.replace(false) {
            return Ok(());
        }
        no_grad(|| self.gradients.shallow_clone().f_zero_().map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_gradients_are_views_of_the_buffers() {
        let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
        let bias = parameters.add("bias".into(), &[2], Init::Zeros).expect("bias");
        let weight = parameters.add("weight".into(), &[2, 3], Init::Ones).expect("weight");
        parameters.flatten().expect("flatten");
        assert_eq!(parameters.gradients().numel(), 0);
        parameters.draw().expect("draw");
        parameters.alloc_grads().expect("gradients");
        let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor.reshape([-1])).expect("numbers");
        let [decayed, rest] = parameters.groups() else { panic!("two groups") };
        assert_eq!((numbers(&decayed.values), numbers(&rest.values)), (vec![1.0; 6], vec![0.0; 2]));

        let _filled = no_grad(|| decayed.values.shallow_clone().fill_(2.0));
        assert_eq!(numbers(&weight), [2.0; 6]);
        (weight.sum(Kind::Float) * 3.0 + bias.sum(Kind::Float)).backward();
        assert_eq!(numbers(parameters.gradients()), [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]);
        let views = parameters.unflatten(parameters.gradients()).expect("unflatten");
        assert_eq!((numbers(&views[0]), views[1].size()), (vec![1.0; 2], vec![2, 3]));
        parameters.zero_grad().expect("zero");
        assert_eq!(numbers(&weight.grad()), [0.0; 6]);
    }
}
