//! One parameter of a model, and its initialization.

use tch::{Device, Kind, TchError, Tensor, no_grad};

/// Beginning of the names of parameters of blocks.
pub const BLOCKS: &str = "transformer.layers.";

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
    pub(super) init: Init,
    pub(super) shape: Vec<i64>,
}

impl Parameter {
    /// Sizes, outermost dimension first.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Number of elements.
    pub(super) fn count(&self) -> i64 {
        self.shape.iter().product()
    }

    /// True for the weights of linear layers, false for tables, biases and LayerNorm parameters.
    pub(super) fn is_matrix_of_block(&self) -> bool {
        self.decay && self.name.starts_with(BLOCKS)
    }

    /// Parameters with the same unit have their gradients in one vector: those of tables, of the matrices of a block, and all others.
    pub(super) fn unit(&self) -> (bool, Option<&str>) {
        let block = self.is_matrix_of_block().then(|| self.name.strip_prefix(BLOCKS).and_then(|rest| rest.split('.').next()));
        (self.decay, block.flatten())
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
