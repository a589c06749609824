//! Token ids as one byte string, for `#[serde(with)]`.
//!
//! As a sequence, postcard encodes every id as a varint, which would take most of the time of the ordered stage.

use std::fmt;

use glm_schemas::vocab::TokenId;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

const ID_BYTES: usize = size_of::<TokenId>();

pub(super) fn serialize<S: Serializer>(ids: &[TokenId], serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = vec![0; ids.len() * ID_BYTES];
    for (bytes, id) in bytes.as_chunks_mut().0.iter_mut().zip(ids) {
        *bytes = id.to_le_bytes();
    }
    serializer.serialize_bytes(&bytes)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TokenId>, D::Error> {
    deserializer.deserialize_bytes(IdVisitor)
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Vec<TokenId>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token ids of {ID_BYTES} bytes each")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        match bytes.as_chunks() {
            (ids, []) => Ok(ids.iter().map(|&id| TokenId::from_le_bytes(id)).collect()),
            _ => Err(E::invalid_length(bytes.len(), &self)),
        }
    }
}
