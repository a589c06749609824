//! The named parameters of a model: how they start, and the buffers that hold all of them.

use libtorch_ext::autograd::set_gradient;
use tch::{Device, Kind, TchError, Tensor, no_grad};

/// How the values of a parameter start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal distribution with mean 0 and this standard deviation.
    Normal(f64),
    /// All ones.
    Ones,
    /// All zeros.
    Zeros,
}

/// One parameter: a leaf of the graph that collects its gradient.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in checkpoints, see the published weights.
    pub name: String,
    /// Its values, the master copy.
    pub tensor: Tensor,
    /// Whether weight decay applies: to weights and embeddings, not to biases and LayerNorm.
    pub decay: bool,
    /// How its values start, see [`Self::draw`].
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

    /// Gives it the values that it starts from: normal ones are drawn on the CPU in 32 bits, whatever its kind and device are,
    /// so that a seed means the same start everywhere.
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

/// A part of the buffers whose parameters are treated alike, each `[n]`: one call of the optimizer updates it.
#[derive(Debug)]
pub struct Group {
    /// Values of its parameters, end to end.
    pub values: Tensor,
    /// Their gradients; `[0]` before [`Parameters::alloc_grads`].
    pub gradients: Tensor,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// All parameters of a model, in the order in which layers made them.
///
/// [`Self::gather`] lays values end to end in one buffer, those that decay first, and [`Self::alloc_grads`] their gradients in
/// another; every parameter is then a view of them. So the gradient's norm and the optimizer are one pass over memory each.
#[derive(Debug)]
pub struct Parameters {
    named: Vec<Parameter>,
    kind: Kind,
    device: Device,
    groups: Vec<Group>,
    gradients: Tensor,
}

impl Parameters {
    /// An empty set; parameters will have this kind ([`Kind::Float`] for training) and live on this device.
    pub fn new(kind: Kind, device: Device) -> Self {
        Self { named: Vec::new(), kind, device, groups: Vec::new(), gradients: Tensor::new() }
    }

    /// Names a parameter and returns a handle to it, which holds no values before [`Self::gather`].
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn add(&mut self, name: String, shape: &[i64], init: Init) -> Result<Tensor, TchError> {
        let tensor = Tensor::f_empty([0], (self.kind, self.device))?.f_set_requires_grad(true)?;
        let handle = tensor.shallow_clone();
        self.named.push(Parameter { name, tensor, decay: shape.len() > 1, init, shape: shape.to_vec() });
        Ok(handle)
    }

    /// Makes the common buffer of values, which are what the memory held before: they are to be drawn ([`Self::draw`]) or loaded.
    /// Handles are views of it then.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn gather(&mut self) -> Result<(), TchError> {
        let values = Tensor::f_empty([self.count()], (self.kind, self.device))?;
        self.groups.clear();
        let mut first = 0;
        for decay in [true, false] {
            let count = self.named.iter().filter(|parameter| parameter.decay == decay).map(Parameter::count).sum();
            let values = values.f_narrow(0, first, count)?;
            self.groups.push(Group { values, gradients: Tensor::f_empty([0], (self.kind, self.device))?, decay });
            first += count;
        }
        let pieces = self.cut(&values)?;
        // The variables stay the same; only their memory is another.
        no_grad(|| self.named.iter_mut().zip(&pieces).try_for_each(|(parameter, piece)| parameter.tensor.f_set_data(piece)))
    }

    /// Draws the values that the parameters start from, one parameter behind the other as they were added.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn draw(&self) -> Result<(), TchError> {
        self.named.iter().try_for_each(Parameter::draw)
    }

    /// Makes the common buffer of gradients, all zero, as training needs it. Behind [`Self::gather`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn alloc_grads(&mut self) -> Result<(), TchError> {
        self.gradients = Tensor::f_zeros([self.count()], (self.kind, self.device))?;
        for (parameter, piece) in self.named.iter().zip(&self.cut(&self.gradients)?) {
            set_gradient(&parameter.tensor, piece)?;
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

    /// The parameters, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.named.iter()
    }

    /// The parts of the common buffers: what decays, then what does not.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The gradients of all parameters as one vector; `[0]` before [`Self::alloc_grads`].
    pub fn gradients(&self) -> &Tensor {
        &self.gradients
    }

    /// The part of a vector with a number for each value that belongs to each parameter, in the order of the parameters and
    /// in their shapes.
    ///
    /// # Errors
    /// A [`TchError`] where the vector has another length.
    pub fn cut(&self, vector: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let mut next = 0;
        let mut pieces: Vec<Option<Tensor>> = self.named.iter().map(|_| None).collect();
        for decay in [true, false] {
            for (parameter, piece) in self.named.iter().zip(&mut pieces).filter(|(parameter, _)| parameter.decay == decay) {
                let count = parameter.count();
                *piece = Some(vector.f_narrow(0, next, count)?.f_view(&parameter.shape[..])?);
                next += count;
            }
        }
        Ok(pieces.into_iter().flatten().collect())
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// The kind of the master copies.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Sets all gradients to zero, so that the next backward pass starts from there.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn zero_grad(&self) -> Result<(), TchError> {
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
        parameters.gather().expect("gather");
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
        let pieces = parameters.cut(parameters.gradients()).expect("cut");
        assert_eq!((numbers(&pieces[0]), pieces[1].size()), (vec![1.0; 2], vec![2, 3]));
        parameters.zero_grad().expect("zero");
        assert_eq!(numbers(&weight.grad()), [0.0; 6]);
    }
}
