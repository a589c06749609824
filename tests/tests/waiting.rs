//! The trainer's threads sleep soon when they wait, unless the user says how they are to wait.

use std::path::Path;

use glm_tests::processes::Running;
use glm_tests::training::{corpus, set, trainer};

/// The environment of a run that is under way.
fn environment(folder: &Path, name: &str, said: Option<(&str, &str)>) -> Vec<String> {
    let out = folder.join(name);
    let mut command = trainer(folder, &out);
    set(&mut command, &["train.epochs=100000"]).env_remove("GOMP_SPINCOUNT").env_remove("OMP_WAIT_POLICY").envs(said);
    let mut running = Running::start(&mut command, folder.join(format!("{name}.log")));
    let settings = out.join("config.toml");
    running.until("it begins", || settings.is_file().then_some(()));
    let bytes = std::fs::read(format!("/proc/{}/environ", running.pid())).expect("its environment");
    bytes.split(|&byte| byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

#[test]
fn threads_sleep_soon_unless_the_user_says_otherwise() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let spins = |entries: Vec<String>| entries.into_iter().find(|entry| entry.starts_with("GOMP_SPINCOUNT="));
    assert_eq!(spins(environment(folder.path(), "ours", None)).as_deref(), Some("GOMP_SPINCOUNT=10000"));
    assert_eq!(spins(environment(folder.path(), "theirs", Some(("OMP_WAIT_POLICY", "ACTIVE")))), None);
}
