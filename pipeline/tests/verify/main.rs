//! `glm-prep verify` on small generated data sets, sound ones and ones with every kind of fault.

mod data_set;
mod files;
mod rows;
#[path = "../support/mod.rs"]
mod support;
