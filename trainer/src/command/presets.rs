//! `glm-trainer presets`: prints the table of named models.

use clap::Args;

use crate::model::preset::PresetTable;

/// Arguments of `presets`.
#[derive(Debug, Clone, Args)]
pub struct PresetsArgs {
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
    /// Print the table of docs/models.md
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

impl PresetsArgs {
    /// Returns the table.
    ///
    /// # Errors
    /// Never in practice; the serializer requires it.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        Ok(match (self.json, self.markdown) {
            (true, _) => serde_json::to_string(&PresetTable)? + "\n",
            (_, true) => PresetTable.markdown(),
            _ => PresetTable.to_string(),
        })
    }
}
