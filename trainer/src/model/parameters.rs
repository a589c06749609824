//! The named parameters of a model, and how they start.

use tch::{Device, Kind, TchError, Tensor};

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
}

/// All parameters of a model, in the order in which layers made them.
#[derive(Debug)]
pub struct Parameters {
    named: Vec<Parameter>,
    kind: Kind,
    device: Device,
}

impl Parameters {
    /// An empty set; parameters will have this kind ([`Kind::Float`] for training) and live on this device.
    pub fn new(kind: Kind, device: Device) -> Self {
        Self { named: Vec::new(), kind, device }
    }

    /// Makes a parameter and returns a handle to it.
    ///
    /// Values are drawn on the CPU in 32 bits whatever kind and device are, so that a seed means the same start everywhere.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn add(&mut self, name: String, shape: &[i64], init: Init) -> Result<Tensor, TchError> {
        let mut start = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
        let _filled = match init {
            Init::Normal(std) => start.f_normal_(0.0, std)?,
            Init::Ones => start.f_fill_(1.0)?,
            Init::Zeros => start.f_zero_()?,
        };
        let tensor = start.f_to_device(self.device)?.f_totype(self.kind)?.f_set_requires_grad(true)?;
        let handle = tensor.shallow_clone();
        let decay = shape.len() > 1;
        self.named.push(Parameter { name, tensor, decay });
        Ok(handle)
    }

    /// The parameters, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.named.iter()
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

    /// Drops collected gradients, so that the next backward pass starts from zero.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn zero_grad(&self) -> Result<(), TchError> {
        for parameter in &self.named {
            let mut gradient = parameter.tensor.f_grad()?;
            if gradient.defined() {
                let _ = gradient.f_detach_()?.f_zero_()?;
            }
        }
        Ok(())
    }
}
