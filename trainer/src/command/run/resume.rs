//! Selection of the checkpoint from which a run resumes.

use std::path::PathBuf;

use glm_schemas::manifest::Manifest;

use super::{Request, Resume};
use crate::checkpoint::run_folder::{RunFolder, RunState};
use crate::command::setup::SetupError;
use crate::config::Config;
use crate::config::changes::{Change, Effect, changes, effect};

/// Returns the latest intact checkpoint of a run folder, or `None` for a new run. A folder that contains another run is an error.
pub(super) fn point(
    folder: &RunFolder,
    request: &Request,
    config: &Config,
    manifest: &Manifest,
) -> Result<Option<(PathBuf, RunState)>, SetupError> {
    let root = folder.root().display();
    let refuse = |text: String| Err(SetupError::Invalid(text));
    for key in &request.allow {
        if effect(key) == Effect::Never {
            return refuse(format!("--allow {key}: this cannot change within a run; begin another with --out"));
        }
    }
    let Some(path) = folder.latest_intact()? else {
        return match request.resume {
            Resume::Yes => {
                refuse(format!("there is no checkpoint to resume from in {root}; leave out --resume to begin a run there"))
            }
            Resume::IfSame | Resume::IfPossible => Ok(None),
        };
    };
    let state = RunFolder::state(&path)?;
    if state.fingerprint != manifest.fingerprint {
        return refuse(format!(
            "the run in {root} was on another data set (fingerprint {}, not {}): resume it with the data that it began with",
            state.fingerprint, manifest.fingerprint
        ));
    }
    let same = request.resume == Resume::IfSame;
    let changes = changes(&state.config, config);
    let of = |wanted: Effect| -> Vec<&Change> {
        let meant = |change: &&Change| request.allow.contains(&change.key);
        changes.iter().filter(|change| change.effect == wanted && !meant(change)).collect()
    };
    let (never, steps, length) = (of(Effect::Never), of(Effect::Steps), of(Effect::Length));
    if !never.is_empty() {
        return refuse(format!(
            "{root} already holds a run, of which this cannot change: {}; begin another with --out",
            list(&never)
        ));
    }
    if !steps.is_empty() {
        let allow: Vec<String> = steps.iter().map(|change| format!("--allow {}", change.key)).collect();
        return refuse(format!(
            "{root} already holds a run with other settings: {}; begin another with --out, or go on with what is new by --resume {}",
            list(&steps),
            allow.join(" ")
        ));
    }
    if same && !length.is_empty() {
        return refuse(format!(
            "{root} already holds a run with other settings: {}; go on with it by --resume, or begin another with --out",
            list(&length)
        ));
    }
    if let (true, Some(init)) = (same, &request.init)
        && state.init.as_ref().is_some_and(|began| *began != init.to_string())
    {
        return refuse(format!(
            "{root} already holds a run that began with the weights {}; go on with it by --resume, or begin another with --out",
            state.init.unwrap_or_default()
        ));
    }
    for Change { key, before, now, .. } in changes.iter().filter(|change| change.effect != Effect::None) {
        tracing::info!("{key} is {now} from here on, and was {before}");
    }
    Ok(Some((path, state)))
}

/// "optim.lr is 2e-5 and was 1e-5, …".
fn list(changes: &[&Change]) -> String {
    let one = |change: &&Change| format!("{} is {} and was {}", change.key, change.now, change.before);
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}
