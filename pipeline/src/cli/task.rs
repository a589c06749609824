//! Values of `--task` and `--pattern`.

use std::str::FromStr;

use glm_schemas::manifest::TaskName;

use crate::pattern::catalogue;
use crate::pattern::task::is_path;

/// Value of `--task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TaskArg {
    /// A kind of rows.
    Kind(TaskName),
    /// Name of an embedded pattern file, or path of another one.
    Pattern(String),
}

impl FromStr for TaskArg {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some(task) = TaskName::ALL.into_iter().find(|task| task.name() == name) {
            return Ok(Self::Kind(task));
        }
        // A mistake in the name of a pattern gets an answer that names the list.
        if name.contains('/') || is_path(name) || catalogue::find(name).is_some() {
            return Ok(Self::Pattern(name.to_owned()));
        }
        let kinds = TaskName::ALL.map(TaskName::name).join(", ");
        Err(format!("expected {kinds}, or a task that `glm-prep patterns` lists"))
    }
}

/// Value of `--pattern`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PatternArg {
    Number(usize),
    File(String),
}

impl FromStr for PatternArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_path(text) {
            return Ok(Self::File(text.to_owned()));
        }
        text.parse().map(Self::Number).map_err(|_| "expected a number from 0, or the path of a .toml file".to_owned())
    }
}
