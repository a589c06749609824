//! How many workers to start, and whether to start any.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::str::FromStr;

use thiserror::Error;

use crate::device::{DeviceChoice, DeviceError, gpu_count};

/// What `--nproc` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// So many.
    Count(NonZeroUsize),
    /// One for each GPU.
    Gpus,
}

/// What is wrong with a number of processes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no number of processes; there are 1, 2, … and gpu, one for each GPU")]
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
    /// How many that is on this machine.
    ///
    /// # Errors
    /// A [`DeviceError`] where there was to be one for each GPU, and libtorch sees none.
    pub fn count(self) -> Result<usize, DeviceError> {
        match self {
            Self::Count(count) => Ok(count.get()),
            Self::Gpus => gpu_count(),
        }
    }
}

/// A launcher has started this process already.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "--nproc starts the processes of a run, but {variable}={value:?} says that a launcher (torchrun, srun, another --nproc) has \
     started this one beside others: leave --nproc out, or unset {variable}"
)]
pub struct OtherLauncher {
    variable: &'static str,
    value: OsString,
}

/// Checks that this process is not itself a worker; `variable` reads the environment.
///
/// # Errors
/// [`OtherLauncher`] where it is.
pub fn check_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<(), OtherLauncher> {
    for name in ["RANK", "WORLD_SIZE"] {
        if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
            return Err(OtherLauncher { variable: name, value });
        }
    }
    // Of several tasks of `srun`, each would start a run of its own in the same folder.
    match (variable("SLURM_STEP_ID"), variable("SLURM_NTASKS")) {
        (Some(_), Some(value)) if value != "1" => Err(OtherLauncher { variable: "SLURM_NTASKS", value }),
        _ => Ok(()),
    }
}

/// The share of this machine's cores that each of `world_size` workers gets for its operators, where they compute on the CPU.
pub fn threads_each(world_size: usize, device: DeviceChoice) -> Option<usize> {
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
    fn numbers_and_gpus() {
        assert_eq!("gpu".parse(), Ok(Processes::Gpus));
        assert_eq!("4".parse::<Processes>().expect("a number").count(), Ok(4));
        for wrong in ["0", "-1", "two", ""] {
            assert!(wrong.parse::<Processes>().expect_err("no number").to_string().contains("1, 2, … and gpu"));
        }
    }

    #[test]
    fn workers_do_not_launch() {
        let environment = |set: &'static [(&str, &str)]| {
            check_environment(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(environment(&[("RANK", ""), ("HOME", "/")]), Ok(()));
        assert_eq!(environment(&[("SLURM_STEP_ID", "0"), ("SLURM_NTASKS", "1")]), Ok(()));
        assert!(environment(&[("SLURM_STEP_ID", "0"), ("SLURM_NTASKS", "2")]).is_err());
        assert_eq!(environment(&[("SLURM_NTASKS", "2")]), Ok(()));
        let error = environment(&[("WORLD_SIZE", "8")]).expect_err("a worker").to_string();
        assert!(error.contains("WORLD_SIZE=\"8\"") && error.contains("leave --nproc out"), "{error}");
    }

    #[test]
    fn workers_share_the_cores_of_a_cpu() {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        assert_eq!(threads_each(1, DeviceChoice::Cpu), Some(cores));
        assert_eq!(threads_each(10 * cores, DeviceChoice::Cpu), Some(1));
        assert_eq!(threads_each(2, DeviceChoice::Cuda(0)), None);
    }
}
