//! Settings and checkpoint from which a run resumes.

use std::path::{Path, PathBuf};

use glm_schemas::manifest::Manifest;

use super::{Request, Resume};
use crate::checkpoint::run_folder::{RunFolder, RunState};
use crate::command::setup::SetupError;
use crate::config::changes::{Change, Effect, changes, effect};
use crate::config::{Config, plan};
use crate::distributed::Environment;
use crate::record::sessions::Session;

/// Settings and data set of the run in a folder.
#[derive(Debug)]
pub(super) struct RecordedRun {
    /// Settings, as in its latest checkpoint.
    pub(super) config: Config,
    /// Folder of the data set.
    pub(super) data: Option<PathBuf>,
}

impl RecordedRun {
    /// Reads the run in a folder, which may be in use. `None` on a rank whose machine does not see the folder of the run.
    ///
    /// # Errors
    /// [`SetupError`] if there is no checkpoint.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, SetupError> {
        let Some(state) = RunFolder::recorded(folder)? else {
            let is_other_rank = matches!(Environment::read(), Ok(Some(environment)) if environment.rank > 0);
            return if is_other_rank { Ok(None) } else { Err(no_checkpoint(folder)) };
        };
        let data = Session::read(folder).pop().map(|session| session.data);
        Ok(Some(Self { config: state.config, data }))
    }
}

fn no_checkpoint(folder: &Path) -> SetupError {
    let folder = folder.display();
    SetupError::Invalid(format!("there is no checkpoint to resume from in {folder}; omit --resume to start a run there"))
}

/// Returns the latest intact checkpoint of a run folder, or `None` for a new run. A folder that contains another run is an error.
pub(super) fn point(
    folder: &RunFolder,
    request: &Request,
    config: &mut Config,
    manifest: &Manifest,
) -> Result<Option<(PathBuf, RunState)>, SetupError> {
    let root = folder.root().display();
    let refuse = |text: String| Err(SetupError::Invalid(text));
    for key in &request.allow {
        if effect(key) == Effect::Never {
            return refuse(format!("--allow {key}: this cannot change within a run; start another run with --out"));
        }
    }
    let Some(path) = folder.latest_intact()? else {
        return match request.resume {
            Resume::Yes => Err(no_checkpoint(folder.root())),
            Resume::IfSame | Resume::IfPossible => Ok(None),
        };
    };
    let state = RunFolder::state(&path)?;
    if state.fingerprint != manifest.fingerprint {
        return refuse(format!(
            "the run in {root} uses another data set (fingerprint {}, not {}); resume it with the data set with which it was started",
            state.fingerprint, manifest.fingerprint
        ));
    }
    let same = request.resume == Resume::IfSame;
    // First, since other weights may mean another recipe.
    if let (true, Some(init)) = (same, &request.init)
        && state.init.as_ref().is_some_and(|began| *began != init.to_string())
    {
        return refuse(format!(
            "{root} already holds a run that started from the weights {}; resume it with --resume, or start another run with --out",
            state.init.as_deref().unwrap_or_default()
        ));
    }
    // With --resume, recorded numbers are the defaults, and zeros ask for those of the new length.
    if request.resume != Resume::Yes && !request.allow.iter().any(|key| key == "optim.decay_steps") {
        plan::keep_recorded(config, &state.config);
    }
    let changes = changes(&state.config, config);
    let of = |wanted: Effect| -> Vec<&Change> {
        let is_allowed = |change: &&Change| request.allow.contains(&change.key);
        changes.iter().filter(|change| change.effect == wanted && !is_allowed(change)).collect()
    };
    let (never, steps, length) = (of(Effect::Never), of(Effect::Steps), of(Effect::Length));
    if !never.is_empty() {
        return refuse(format!(
            "{root} already holds a run in which these settings cannot change: {}; start another run with --out",
            list(&never)
        ));
    }
    if !steps.is_empty() {
        let allow: Vec<String> = steps.iter().map(|change| format!("--allow {}", change.key)).collect();
        return refuse(format!(
            "{root} already holds a run with other settings: {}; start another run with --out, or resume with the new settings by --resume {}",
            list(&steps),
            allow.join(" ")
        ));
    }
    if same && !length.is_empty() {
        return refuse(format!(
            "{root} already holds a run with other settings: {}; resume it with --resume, or start another run with --out",
            list(&length)
        ));
    }
    if let (false, Some(init)) = (same, &request.init)
        && state.init.as_ref().is_some_and(|began| *began != init.to_string())
    {
        tracing::warn!("--init {init} is ignored: the run in {root} resumes from its checkpoint");
    }
    for Change { key, before, now, .. } in changes.iter().filter(|change| change.effect != Effect::None) {
        tracing::info!("{key} changes from {before} to {now}");
    }
    Ok(Some((path, state)))
}

/// Formats changes: "optim.lr is 2e-5 instead of 1e-5, …".
fn list(changes: &[&Change]) -> String {
    let one = |change: &&Change| format!("{} is {} instead of {}", change.key, change.now, change.before);
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}
