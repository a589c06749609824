//! How the threads of libtorch's operators wait for each other.

use std::io;

/// Times that a waiting thread looks again before it sleeps: some tens of microseconds. libgomp's own default, 300,000, is up to
/// 15 ms; where another program has a core, every operation then waits that long for the thread that has none, and training
/// is ten times as slow. With fewer than a thousand, threads sleep between operations that follow each other at once.
const SPINS: &str = "10000";
/// libgomp's variable for that number.
const SPINS_VARIABLE: &str = "GOMP_SPINCOUNT";
/// Settings of the user's that say how to wait.
const CHOICES: [&str; 3] = [SPINS_VARIABLE, "OMP_WAIT_POLICY", "KMP_BLOCKTIME"];

/// Has threads sleep soon when they wait, unless the environment says how they are to wait. libgomp reads its variables when
/// it is loaded, which is before any line of ours runs: so this starts the program anew, in the same process, the first
/// time that it is called.
///
/// # Errors
/// Where the program cannot be started anew. It can go on as it is; threads then wait as libgomp has them wait.
pub fn sleep_soon() -> io::Result<()> {
    if CHOICES.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    again()
}

#[cfg(target_os = "linux")]
fn again() -> io::Result<()> {
    use std::os::unix::process::CommandExt;

    let mut arguments = std::env::args_os();
    let mut program = std::process::Command::new(std::env::current_exe()?);
    program.arg0(arguments.next().unwrap_or_default());
    // Returns where it fails only.
    Err(program.args(arguments).env(SPINS_VARIABLE, SPINS).exec())
}

#[cfg(not(target_os = "linux"))]
fn again() -> io::Result<()> {
    Ok(())
}
