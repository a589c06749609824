//! Number of workers, and checks before they are started.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::str::FromStr;

use thiserror::Error;

use crate::device::{DeviceChoice, DeviceError, gpu_count};

/// Value of `--nproc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// This number of processes.
    Count(NonZeroUsize),
    /// One process per GPU.
    Gpus,
}

/// Error of parsing a number of processes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid number of processes `{0}`; expected 1, 2, … or gpu (one per GPU)")]
pub struct ProcessesError(String);

impl FromStr for Processes {
    type Err = ProcessesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "gpu" => Ok(Self::Gpus),
            _ => text.parse().map(Self::Count).map_err(|_| ProcessesError(text.to_owned())),
        }
    }
}

impl Processes {
    /// Returns the number of processes on this machine.
    ///
    /// # Errors
    /// A [`DeviceError`] for [`Self::Gpus`] if libtorch sees no GPU.
    pub fn count(self) -> Result<usize, DeviceError> {
        match self {
            Self::Count(count) => Ok(count.get()),
            Self::Gpus => gpu_count(),
        }
    }
}

/// Error of an option that starts processes in a process that was started by a launcher.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{option} cannot be used in a process that another launcher (torchrun, srun or --nproc) has started, as indicated by \
     {variable}={value:?}; omit {option}, or unset {variable}"
)]
pub struct OtherLauncher {
    option: &'static str,
    variable: &'static str,
    value: OsString,
}

/// Checks that this process, which was given `option`, was not started by a launcher. `variable` reads an environment variable.
///
/// # Errors
/// [`OtherLauncher`] if it was.
pub fn check_environment(option: &'static str, variable: impl Fn(&str) -> Option<OsString>) -> Result<(), OtherLauncher> {
    for name in ["RANK", "WORLD_SIZE"] {
        if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
            return Err(OtherLauncher { option, variable: name, value });
        }
    }
    // Several tasks of `srun` would each start a run in the same folder.
    match (variable("SLURM_STEP_ID"), variable("SLURM_NTASKS")) {
        (Some(_), Some(value)) if value != "1" => Err(OtherLauncher { option, variable: "SLURM_NTASKS", value }),
        _ => Ok(()),
    }
}

/// Returns the number of threads of each of `world_size` workers if they compute on the CPU: an equal share of the cores.
pub fn threads_per_worker(world_size: usize, device: DeviceChoice) -> Option<usize> {
    let on_cpu = match device {
        DeviceChoice::Cpu => true,
        DeviceChoice::Auto => gpu_count().is_err(),
        DeviceChoice::Cuda(_) => false,
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    on_cpu.then(|| (cores / world_size.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_counts_are_parsed() {
        assert_eq!("gpu".parse(), Ok(Processes::Gpus));
        assert_eq!("4".parse::<Processes>().expect("a number").count(), Ok(4));
        for invalid in ["0", "-1", "two", ""] {
            assert!(invalid.parse::<Processes>().expect_err("an error").to_string().contains("1, 2, … or gpu"));
        }
    }

    #[test]
    fn workers_cannot_launch() {
        let environment = |set: &'static [(&str, &str)]| {
            check_environment("--nproc", |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(environment(&[("RANK", ""), ("HOME", "/")]), Ok(()));
        assert_eq!(environment(&[("SLURM_STEP_ID", "0"), ("SLURM_NTASKS", "1")]), Ok(()));
        assert!(environment(&[("SLURM_STEP_ID", "0"), ("SLURM_NTASKS", "2")]).is_err());
        assert_eq!(environment(&[("SLURM_NTASKS", "2")]), Ok(()));
        let error = environment(&[("WORLD_SIZE", "8")]).expect_err("a worker").to_string();
        assert!(error.contains("WORLD_SIZE=\"8\"") && error.contains("omit --nproc"), "{error}");
    }

    #[test]
    fn workers_share_the_cores() {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        assert_eq!(threads_per_worker(1, DeviceChoice::Cpu), Some(cores));
        assert_eq!(threads_per_worker(10 * cores, DeviceChoice::Cpu), Some(1));
        assert_eq!(threads_per_worker(2, DeviceChoice::Cuda(0)), None);
    }
}
