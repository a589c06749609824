//! Rank of this process, from environment variables set by `torchrun`, Slurm or the user.

use std::fmt::Display;
use std::str::FromStr;

use libtorch_ext::distributed::Secret;
use thiserror::Error;

/// PyTorch's default port.
const DEFAULT_PORT: u16 = 29500;

/// Variable with the secret of the store.
pub(super) const STORE_SECRET: &str = "GLM_STORE_SECRET";
/// Variable with [`LAUNCHER_SERVES`] in the processes of `--nproc`.
pub(super) const STORE_SERVER: &str = "GLM_STORE_SERVER";
/// Value of [`STORE_SERVER`].
pub(super) const LAUNCHER_SERVES: &str = "launcher";

/// Minimum length of a secret, so that it cannot be guessed.
const MIN_SECRET: usize = 16;

/// Process that serves the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreServer {
    /// Rank 0, at the address of the environment.
    RankZero,
    /// The launcher of `--nproc`, at the address of the environment.
    Launcher,
    /// Rank 0, which publishes the address of its store through the store of `torchrun`'s agent, at the address of the
    /// environment.
    Agent,
}

/// Rank of a process, and the address of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Rank of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Rank among the processes on this machine, which is also the index of its GPU.
    pub local_rank: usize,
    /// Number of processes on this machine, if known.
    pub local_world_size: Option<usize>,
    /// Host name or address of the store, or of that of `torchrun`'s agent.
    pub master_host: String,
    /// Port of that store.
    pub master_port: u16,
    /// Process that serves the store.
    pub store_server: StoreServer,
    /// Secret of the store, if the environment sets it.
    pub store_secret: Option<Secret>,
    /// Number of times that the launcher has restarted all processes.
    pub attempt: u32,
}

/// Error of incomplete or invalid environment variables.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// Some variables are set and others are not.
    #[error(
        "{present} is set, but {missing} is not: distributed training needs RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT \
         (torchrun sets them, and --nproc N starts N processes on this machine); unset {present} to train with one process"
    )]
    Missing {
        /// A variable that is set.
        present: &'static str,
        /// A variable that is not set.
        missing: &'static str,
    },
    /// The value of a variable is invalid.
    #[error("{variable}={value}: {rule}")]
    Value {
        /// Name of the variable.
        variable: &'static str,
        /// Invalid value.
        value: String,
        /// The rule that it violates.
        rule: String,
    },
}

impl Environment {
    /// Reads the environment variables of this process. Returns `None` for training with a single process.
    ///
    /// # Errors
    /// An [`EnvironmentError`], which names the variable.
    pub fn read() -> Result<Option<Self>, EnvironmentError> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`Self::read`], with the variables returned by `get`.
    ///
    /// RANK, WORLD_SIZE and LOCAL_RANK, as set by `torchrun`, take precedence over the variables of a Slurm task.
    ///
    /// # Errors
    /// An [`EnvironmentError`], which names the variable.
    pub fn from_variables(get: impl Fn(&'static str) -> Option<String>) -> Result<Option<Self>, EnvironmentError> {
        let variables = Variables { get: &get };
        let (ranks, slurm) = (["RANK", "WORLD_SIZE"], ["SLURM_PROCID", "SLURM_NTASKS"]);
        let [rank_name, size_name] = match ranks.iter().any(|name| get(name).is_some()) {
            true => ranks,
            // Only in a task started by `srun`; SLURM_NTASKS is also set in the shell of an allocation.
            false if get("SLURM_STEP_ID").is_some() && get(slurm[0]).is_some() => slurm,
            false => return Ok(None),
        };
        let from_slurm = rank_name == slurm[0];
        let world_size: usize = variables.number(size_name)?.ok_or_else(|| variables.missing(rank_name, size_name))?;
        let rank: usize = variables.number(rank_name)?.ok_or_else(|| variables.missing(size_name, rank_name))?;
        if from_slurm && world_size == 1 {
            return Ok(None);
        }
        if world_size == 0 {
            return Err(variables.invalid(size_name, "must be at least 1"));
        }
        if rank >= world_size {
            return Err(variables.invalid(rank_name, format!("must be less than {size_name}, which is {world_size}")));
        }
        let local_rank = match variables.number("LOCAL_RANK")? {
            Some(rank) => rank,
            None if from_slurm => variables.number("SLURM_LOCALID")?.unwrap_or(0),
            // Without a launcher, all processes are assumed to be on one machine unless LOCAL_WORLD_SIZE is 1.
            None if variables.number("LOCAL_WORLD_SIZE")? == Some(1_usize) => 0,
            None => rank,
        };
        let on_one_machine = from_slurm && variables.number("SLURM_NNODES")? == Some(1_usize);
        let master_host = match get("MASTER_ADDR") {
            Some(host) => host,
            None if world_size == 1 || on_one_machine => "127.0.0.1".to_owned(),
            None => return Err(variables.missing(rank_name, "MASTER_ADDR")),
        };
        let master_port = match variables.number("MASTER_PORT")? {
            Some(port) => port,
            // A single process can use any free port.
            None if world_size == 1 => 0,
            None if from_slurm => DEFAULT_PORT,
            None => return Err(variables.missing(rank_name, "MASTER_PORT")),
        };
        let is = |name, expected: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case(expected));
        let store_server = match () {
            () if is(STORE_SERVER, LAUNCHER_SERVES) => StoreServer::Launcher,
            () if is("TORCHELASTIC_USE_AGENT_STORE", "true") => StoreServer::Agent,
            () => StoreServer::RankZero,
        };
        Ok(Some(Self {
            rank,
            world_size,
            local_rank,
            local_world_size: variables.number("LOCAL_WORLD_SIZE")?,
            master_host,
            master_port,
            store_server,
            store_secret: variables.secret()?,
            attempt: variables.number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0),
        }))
    }
}

/// Parser of single variables.
struct Variables<'a> {
    get: &'a dyn Fn(&'static str) -> Option<String>,
}

impl Variables<'_> {
    fn number<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<Option<T>, EnvironmentError> {
        let Some(value) = (self.get)(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|error| self.invalid(name, format!("invalid number ({error})")))
    }

    fn secret(&self) -> Result<Option<Secret>, EnvironmentError> {
        let Some(text) = (self.get)(STORE_SECRET) else { return Ok(None) };
        if text.len() < MIN_SECRET {
            let rule = format!("must have at least {MIN_SECRET} characters, so that nobody guesses it");
            // The value is not shown.
            return Err(EnvironmentError::Value { variable: STORE_SECRET, value: "...".to_owned(), rule });
        }
        Ok(Some(Secret::new(text)))
    }

    fn invalid(&self, variable: &'static str, rule: impl Into<String>) -> EnvironmentError {
        EnvironmentError::Value { variable, value: (self.get)(variable).unwrap_or_default(), rule: rule.into() }
    }

    fn missing(&self, present: &'static str, missing: &'static str) -> EnvironmentError {
        EnvironmentError::Missing { present, missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &str) -> Result<Option<Environment>, EnvironmentError> {
        let pairs: Vec<(&str, &str)> = variables.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        let find = |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment::from_variables(find)
    }

    fn some(variables: &str) -> Environment {
        read(variables).expect("valid").expect("several processes")
    }

    #[test]
    fn torchrun() {
        let read = some(
            "RANK=5 LOCAL_RANK=1 WORLD_SIZE=8 LOCAL_WORLD_SIZE=4 MASTER_ADDR=node-0 MASTER_PORT=1234 \
             TORCHELASTIC_USE_AGENT_STORE=True TORCHELASTIC_RESTART_COUNT=2",
        );
        let expected = Environment {
            rank: 5,
            world_size: 8,
            local_rank: 1,
            local_world_size: Some(4),
            master_host: "node-0".into(),
            master_port: 1234,
            store_server: StoreServer::Agent,
            store_secret: None,
            attempt: 2,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn without_a_launcher() {
        let manual = some("RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1");
        assert_eq!((manual.local_rank, manual.store_server, manual.attempt), (1, StoreServer::RankZero, 0));
        assert_eq!(some("RANK=0 WORLD_SIZE=1").master_host, "127.0.0.1");
        assert_eq!(some("RANK=3 WORLD_SIZE=4 LOCAL_WORLD_SIZE=1 MASTER_ADDR=a MASTER_PORT=1").local_rank, 0);
    }

    #[test]
    fn the_launcher_and_the_secret() {
        let job = "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1";
        assert_eq!(some(job).store_secret, None);
        let launched = some(&format!("{job} GLM_STORE_SERVER=launcher GLM_STORE_SECRET=0123456789abcdef"));
        assert_eq!(
            (launched.store_server, launched.store_secret),
            (StoreServer::Launcher, Some(Secret::new("0123456789abcdef")))
        );
        let error = read(&format!("{job} GLM_STORE_SECRET=0123456789abcde")).expect_err("too short").to_string();
        assert_eq!(error, "GLM_STORE_SECRET=...: must have at least 16 characters, so that nobody guesses it");
    }

    #[test]
    fn slurm() {
        let task = "SLURM_STEP_ID=0 SLURM_PROCID=9 SLURM_LOCALID=1 SLURM_NTASKS=16";
        let read_task = some(&format!("{task} SLURM_NNODES=2 MASTER_ADDR=n1"));
        let Environment { rank, world_size, local_rank, master_port, .. } = read_task;
        assert_eq!((rank, world_size, local_rank, master_port), (9, 16, 1, 29500));
        assert_eq!(some(&format!("{task} SLURM_NNODES=1")).master_host, "127.0.0.1");
        assert!(read(&format!("{task} SLURM_NNODES=2")).expect_err("no host").to_string().contains("MASTER_ADDR is not"));
        // The shell of an allocation, a single task, and a torchrun inside a task.
        assert_eq!(read("SLURM_PROCID=0 SLURM_NTASKS=8"), Ok(None));
        assert_eq!(read("SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=1"), Ok(None));
        let inside = some("SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=2 RANK=3 WORLD_SIZE=8 MASTER_ADDR=a MASTER_PORT=1");
        assert_eq!((inside.rank, inside.world_size), (3, 8));
    }

    #[test]
    fn errors_name_the_variable() {
        let text = |variables: &str| read(variables).expect_err("an error").to_string();
        assert_eq!(read(""), Ok(None));
        assert!(text("RANK=0").starts_with("RANK is set, but WORLD_SIZE is not"));
        assert!(text("WORLD_SIZE=2").starts_with("WORLD_SIZE is set, but RANK is not"));
        assert!(text("RANK=0 WORLD_SIZE=2").contains("MASTER_ADDR is not"));
        assert!(text("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a").contains("MASTER_PORT is not"));
        assert_eq!(text("RANK=2 WORLD_SIZE=2"), "RANK=2: must be less than WORLD_SIZE, which is 2");
        assert!(text("RANK=x WORLD_SIZE=2").starts_with("RANK=x: invalid number"));
        assert!(text("RANK=0 WORLD_SIZE=0").starts_with("WORLD_SIZE=0:"));
        assert!(text("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=99999").starts_with("MASTER_PORT=99999"));
    }
}
