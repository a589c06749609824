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
    /// How its values start when [`Parameters::gather`] makes room for them.
    init: Init,
    shape: Vec<i64>,
}

impl Parameter {
    fn count(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Draws its values.
    fn start(&self) -> Result<(), TchError> {
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
    /// Their gradients.
    pub gradients: Tensor,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// All parameters of a model, in the order in which layers made them.
///
/// [`Self::gather`] lays values and gradients end to end in one buffer each, those that decay first; every parameter is then
/// a view of it. So the gradient's norm and the optimizer are one pass over memory each.
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

    /// Makes the common buffers of values and of their gradients, and draws the values' start. Handles are views of them then.
    ///
    /// Values are drawn on the CPU in 32 bits, one parameter behind the other as they were added, whatever kind and device
    /// are: a seed means the same start everywhere. No value is held twice.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn gather(&mut self) -> Result<(), TchError> {
        let all: i64 = self.named.iter().map(Parameter::count).sum();
        let options = (self.kind, self.device);
        let values = Tensor::f_empty([all], options)?;
        self.gradients = Tensor::f_zeros([all], options)?;
        self.groups.clear();
        let mut next = 0;
        for decay in [true, false] {
            let first = next;
            for parameter in self.named.iter_mut().filter(|parameter| parameter.decay == decay) {
                let place = |buffer: &Tensor| buffer.f_narrow(0, next, parameter.count())?.f_view(&parameter.shape[..]);
                let (value, gradient) = (place(&values)?, place(&self.gradients)?);
                // The variable stays the same; only its memory is another.
                no_grad(|| parameter.tensor.f_set_data(&value))?;
                set_gradient(&parameter.tensor, &gradient)?;
                next += parameter.count();
            }
            let part = |buffer: &Tensor| buffer.f_narrow(0, first, next - first);
            self.groups.push(Group { values: part(&values)?, gradients: part(&self.gradients)?, decay });
        }
        no_grad(|| self.named.iter().try_for_each(Parameter::start))
    }

    /// The parameters, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.named.iter()
    }

    /// The parts of the common buffers: what decays, then what does not.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The gradients of all parameters as one vector.
    pub fn gradients(&self) -> &Tensor {
        &self.gradients
    }

    /// The part of a vector as long as [`Self::gradients`] that belongs to each parameter, in the order of the parameters and
    /// in their shapes.
    ///
    /// # Errors
    /// A [`TchError`] where the vector has another length.
    pub fn cut(&self, vector: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let mut next = 0;
        let mut pieces: Vec<Option<Tensor>> = self.named.iter().map(|_| None).collect();
        for decay in [true, false] {
            for (parameter, piece) in self.named.iter().zip(&mut pieces).filter(|(parameter, _)| parameter.decay == decay) {
                let count = parameter.tensor.numel() as i64;
                *piece = Some(vector.f_narrow(0, next, count)?.f_view(&parameter.tensor.size()[..])?);
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
