//! Copies of weights in half precision, in which matrix products read them.

use std::collections::HashMap;

use libtorch_ext::memory::identity;
use tch::{Kind, TchError, Tensor};

/// Copies of all parameters in one kind.
#[derive(Debug)]
pub(super) struct Copies {
    kind: Kind,
    /// All of them, if they are one vector that is laid out like the flat buffers.
    values: Option<Tensor>,
    /// Copies by the identity of the parameter.
    views: HashMap<usize, Tensor>,
}

impl Copies {
    /// Pairs of a parameter and its copy.
    pub(super) fn new<'a>(kind: Kind, values: Option<Tensor>, views: impl IntoIterator<Item = (&'a Tensor, Tensor)>) -> Self {
        let views = views.into_iter().map(|(parameter, view)| (identity(parameter), view)).collect();
        Self { kind, values, views }
    }

    /// Kind of the copies.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Copy of a parameter.
    pub(super) fn get(&self, parameter: &Tensor, kind: Kind) -> Result<&Tensor, TchError> {
        if self.kind != kind {
            return Err(TchError::Kind(format!("weights were copied in {:?}, not in {kind:?}", self.kind)));
        }
        let missing = || TchError::Shape("a tensor that is not a parameter of this model".to_owned());
        self.views.get(&identity(parameter)).ok_or_else(missing)
    }

    /// All copies as one vector, if they are one.
    pub(super) fn values(&self) -> Option<&Tensor> {
        self.values.as_ref()
    }

    /// Handles to the same copies.
    pub(super) fn share(&self) -> Self {
        let views = self.views.iter().map(|(identity, view)| (*identity, view.shallow_clone())).collect();
        Self { kind: self.kind, values: self.values.as_ref().map(Tensor::shallow_clone), views }
    }
}
