//! Reads the git revision of the source. Without git, as in a container or an unpacked archive, `GLM_REVISION` specifies it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=GLM_REVISION");
    let given = std::env::var("GLM_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(of_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=GLM_BUILD_REVISION={revision}");
}

/// Returns the short hash of the checked out commit, followed by `+` if tracked files differ from it.
fn of_git() -> Option<String> {
    let revision = git(&["rev-parse", "--short=10", "HEAD"])?;
    // The log of HEAD changes with every commit and checkout; its folder may be elsewhere, as in a worktree.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--path-format=absolute", "--git-path", file])?;
        if std::path::Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { revision } else { format!("{revision}+") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
