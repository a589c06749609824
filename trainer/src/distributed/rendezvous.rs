//! Rendezvous: opens the store at the address in the environment.

use std::net::ToSocketAddrs;
use std::time::Duration;

use libtorch_ext::distributed::{AgentStore, Secret, Store, StoreError, StoreOptions};
use serde::{Deserialize, Serialize};

use super::environment::{Environment, STORE_SECRET, StoreServer};
use super::error::{DistributedError, SECRET_COMMAND};

/// An open store.
#[derive(Debug)]
pub(super) struct Rendezvous {
    pub(super) store: Store,
    /// Process that serves the store, for messages.
    pub(super) server: &'static str,
    /// True if this process serves the store.
    pub(super) serves: bool,
}

/// Address of the store of a job under `torchrun`, published by rank 0.
#[derive(Serialize, Deserialize)]
struct Published {
    host: String,
    port: u16,
    /// Absent if all ranks have it from their environment.
    secret: Option<String>,
}

/// Opens the store of a job, waiting for its server to start.
///
/// # Errors
/// A [`DistributedError`] if the server does not start within the timeout, or if the secret is missing or differs.
pub(super) fn open(environment: &Environment, timeout: Duration) -> Result<Rendezvous, DistributedError> {
    let Environment { rank, world_size, store_server, ref store_secret, .. } = *environment;
    let options = StoreOptions {
        host: environment.master_host.clone(),
        port: environment.master_port,
        secret: store_secret.clone().unwrap_or_else(Secret::none),
        timeout,
    };
    match (store_server, rank) {
        (StoreServer::Launcher, _) => connect(&options, LAUNCHER),
        // Nobody else uses the store.
        (_, _) if world_size == 1 => serve(&StoreOptions { port: 0, secret: Secret::random()?, ..local(timeout) }),
        (StoreServer::Agent, 0) => serve_through_agent(environment, timeout),
        (StoreServer::Agent, _) => {
            let agent = agent(environment, timeout);
            let missing =
                |address| DistributedError::Missing { missing: vec![0], world_size, address, seconds: timeout.as_secs() };
            let value = agent.get(&key(environment)).map_err(|error| {
                tracing::debug!("{error}");
                missing(format!("{}:{}", agent.host, agent.port))
            })?;
            let published = serde_json::from_slice(&value);
            let Published { host, port, secret } =
                published.map_err(|source| DistributedError::InvalidValue { rank: 0, key: key(environment), source })?;
            let secret = secret.map_or(options.secret, Secret::new);
            connect(&StoreOptions { host, port, secret, timeout }, RANK_ZERO).map_err(|error| absent(error, world_size))
        }
        (StoreServer::RankZero, _) => {
            if options.secret.is_none() {
                check_without_secret(&options, rank == 0)?;
            }
            match rank {
                0 => serve(&options),
                _ => connect(&options, RANK_ZERO).map_err(|error| absent(error, world_size)),
            }
        }
    }
}

/// Names of the processes that serve stores.
const LAUNCHER: &str = "the launcher";
const RANK_ZERO: &str = "rank 0";

/// Serves a store on a free port, and publishes its address and secret through the store of `torchrun`'s agent, which is used
/// for nothing else: it does not limit the time of calls, and does not ask for a secret.
fn serve_through_agent(environment: &Environment, timeout: Duration) -> Result<Rendezvous, DistributedError> {
    let agent = agent(environment, timeout);
    let host = agent.local_address()?.to_string();
    let secret = environment.store_secret.clone().map_or_else(Secret::random, Ok)?;
    let text = environment.store_secret.is_none().then(|| secret.text().to_owned());
    let rendezvous = serve(&StoreOptions { host: host.clone(), port: 0, secret, timeout })?;
    let published = Published { host, port: rendezvous.store.port(), secret: text };
    let key = key(environment);
    let value = serde_json::to_vec(&published);
    let value = value.map_err(|source| DistributedError::InvalidValue { rank: 0, key: key.clone(), source })?;
    agent.set(&key, &value)?;
    Ok(rendezvous)
}

fn agent(environment: &Environment, timeout: Duration) -> AgentStore {
    AgentStore { host: environment.master_host.clone(), port: environment.master_port, timeout }
}

/// Key in the agent's store, which outlives restarts.
fn key(environment: &Environment) -> String {
    format!("glm/{}/store", environment.attempt)
}

/// Options of a store on this machine.
fn local(timeout: Duration) -> StoreOptions {
    StoreOptions { timeout, ..StoreOptions::default() }
}

fn serve(options: &StoreOptions) -> Result<Rendezvous, DistributedError> {
    let store = Store::serve(options).map_err(|error| DistributedError::of_store(error, RANK_ZERO))?;
    Ok(Rendezvous { store, server: RANK_ZERO, serves: true })
}

fn connect(options: &StoreOptions, server: &'static str) -> Result<Rendezvous, DistributedError> {
    let store = Store::connect(options).map_err(|error| DistributedError::of_store(error, server))?;
    Ok(Rendezvous { store, server, serves: false })
}

/// A store that rank 0 should serve and that nobody can connect to means that rank 0 is missing.
fn absent(error: DistributedError, world_size: usize) -> DistributedError {
    match error {
        DistributedError::Store(StoreError::Unreachable { address, timeout, reason }) => {
            tracing::debug!("store: {reason}");
            DistributedError::Missing { missing: vec![0], world_size, address, seconds: timeout.as_secs() }
        }
        error => error,
    }
}

/// Without a secret, a store is for users of this machine only, and rank 0 warns of them.
fn check_without_secret(options: &StoreOptions, warn: bool) -> Result<(), DistributedError> {
    let StoreOptions { host, port, .. } = options;
    let address = format!("{host}:{port}");
    let addresses = (host.as_str(), *port).to_socket_addrs();
    if !addresses.is_ok_and(|mut addresses| addresses.all(|address| address.ip().is_loopback())) {
        return Err(DistributedError::NoSecret { address });
    }
    if warn {
        tracing::warn!(
            "{STORE_SECRET} is not set: all users of this machine can read and write the store of this run at {address}; \
             {SECRET_COMMAND} sets it, before the ranks are started"
        );
    }
    Ok(())
}
