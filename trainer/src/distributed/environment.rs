//! Which of several processes this one is, as `torchrun`, Slurm or a person says it in the environment.

use std::fmt::Display;
use std::str::FromStr;

use thiserror::Error;

/// PyTorch's port, where nobody says another.
const DEFAULT_PORT: u16 = 29500;

/// A process' place among those that train together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Which process this is, from 0.
    pub rank: usize,
    /// How many there are.
    pub world_size: usize,
    /// Which of this machine's it is: the number of its GPU.
    pub local_rank: usize,
    /// How many are on this machine, where that is known.
    pub local_world_size: Option<usize>,
    /// Under which name or address rank 0, or the launcher, is reached.
    pub master_host: String,
    /// At which port.
    pub master_port: u16,
    /// Whether the launcher serves the store there; else rank 0 does.
    pub launcher_serves: bool,
    /// How often the launcher has started all processes anew.
    pub attempt: u32,
}

/// An environment that does not say enough, or contradicts itself.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// Some variables are there, others are not.
    #[error(
        "{present} is set, {missing} is not: processes that train together each need RANK, WORLD_SIZE, MASTER_ADDR and \
         MASTER_PORT (torchrun sets them; --nproc N starts N of them here); unset {present} to train alone"
    )]
    Missing {
        /// One that is there.
        present: &'static str,
        /// One that is not.
        missing: &'static str,
    },
    /// A value is not what it should be.
    #[error("{variable}={value}: {rule}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        rule: String,
    },
}

impl Environment {
    /// Reads this process' environment; `None` where it trains alone.
    ///
    /// # Errors
    /// [`EnvironmentError`] names the variable.
    pub fn read() -> Result<Option<Self>, EnvironmentError> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`Self::read`], from whatever gives the variables.
    ///
    /// RANK and what belongs to it, as `torchrun` sets them, come first; where they are missing, those of a task that Slurm's
    /// `srun` started count.
    ///
    /// # Errors
    /// [`EnvironmentError`] names the variable.
    pub fn from_variables(get: impl Fn(&'static str) -> Option<String>) -> Result<Option<Self>, EnvironmentError> {
        let variables = Variables { get: &get };
        let (ranks, slurm) = (["RANK", "WORLD_SIZE"], ["SLURM_PROCID", "SLURM_NTASKS"]);
        let [rank_name, size_name] = match ranks.iter().any(|name| get(name).is_some()) {
            true => ranks,
            // A task of `srun`, and not the shell of an allocation, which has a number of tasks as well.
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
            return Err(variables.wrong(size_name, "at least one process trains"));
        }
        if rank >= world_size {
            return Err(variables.wrong(rank_name, format!("ranks go from 0 to {}, as {size_name} says", world_size - 1)));
        }
        let local_rank = match variables.number("LOCAL_RANK")? {
            Some(rank) => rank,
            None if from_slurm => variables.number("SLURM_LOCALID")?.unwrap_or(0),
            // By hand, one process a machine is the other way that people do it, but it has to be said.
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
            // Alone, nobody has to be told.
            None if world_size == 1 => 0,
            None if from_slurm => DEFAULT_PORT,
            None => return Err(variables.missing(rank_name, "MASTER_PORT")),
        };
        Ok(Some(Self {
            rank,
            world_size,
            local_rank,
            local_world_size: variables.number("LOCAL_WORLD_SIZE")?,
            master_host,
            master_port,
            launcher_serves: get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            attempt: variables.number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0),
        }))
    }
}

/// Reads single variables.
struct Variables<'a> {
    get: &'a dyn Fn(&'static str) -> Option<String>,
}

impl Variables<'_> {
    fn number<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<Option<T>, EnvironmentError> {
        let Some(value) = (self.get)(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|error| self.wrong(name, format!("is no such number ({error})")))
    }

    fn wrong(&self, variable: &'static str, rule: impl Into<String>) -> EnvironmentError {
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
        read(variables).expect("valid").expect("not alone")
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
            launcher_serves: true,
            attempt: 2,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn by_hand() {
        let hand = some("RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1");
        assert_eq!((hand.local_rank, hand.launcher_serves, hand.attempt), (1, false, 0));
        assert_eq!(some("RANK=0 WORLD_SIZE=1").master_host, "127.0.0.1");
        assert_eq!(some("RANK=3 WORLD_SIZE=4 LOCAL_WORLD_SIZE=1 MASTER_ADDR=a MASTER_PORT=1").local_rank, 0);
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
    fn what_is_missing_or_wrong_is_named() {
        let text = |variables: &str| read(variables).expect_err("mistake").to_string();
        assert_eq!(read(""), Ok(None));
        assert!(text("RANK=0").starts_with("RANK is set, WORLD_SIZE is not"));
        assert!(text("WORLD_SIZE=2").starts_with("WORLD_SIZE is set, RANK is not"));
        assert!(text("RANK=0 WORLD_SIZE=2").contains("MASTER_ADDR is not"));
        assert!(text("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a").contains("MASTER_PORT is not"));
        assert_eq!(text("RANK=2 WORLD_SIZE=2"), "RANK=2: ranks go from 0 to 1, as WORLD_SIZE says");
        assert!(text("RANK=x WORLD_SIZE=2").starts_with("RANK=x: is no such number"));
        assert!(text("RANK=0 WORLD_SIZE=0").starts_with("WORLD_SIZE=0:"));
        assert!(text("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=99999").starts_with("MASTER_PORT=99999"));
    }
}
