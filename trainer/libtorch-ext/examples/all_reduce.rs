//! Benchmark of the reduction of gradients over several processes on this machine, alone and during a backward pass.
//!
//! ```text
//! cargo run --release -p libtorch-ext --example all_reduce [RANKS [MEGABYTES]]
//! ```
//!
//! The program starts itself once per rank, with one thread per rank.

use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use libtorch_ext::autograd::set_gradient;
use libtorch_ext::distributed::{GroupOptions, ProcessGroup, Reducer, ReducerOptions, Store, StoreOptions, available};
use tch::{Device, Kind, TchError, Tensor};

/// Environment variable set for the process of a rank: "rank/port of the store".
const VARIABLE: &str = "ALL_REDUCE_RANK";
const ROUNDS: u32 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    available().map_err(|unavailable| unavailable.to_string())?;
    let number = |i, default| std::env::args().nth(i).map_or(Ok(default), |text| text.parse::<usize>());
    let (world_size, megabytes) = (number(1, 2)?, number(2, 440)?);
    if let Ok(value) = std::env::var(VARIABLE) {
        let (rank, port) = value.split_once('/').ok_or("rank/port")?;
        return run(rank.parse()?, world_size, port.parse()?, megabytes);
    }
    let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() })?;
    let start = |rank: usize| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args().skip(1)).env(VARIABLE, format!("{rank}/{}", store.port()));
        command.env("OMP_NUM_THREADS", "1").spawn()
    };
    let ranks = (0..world_size).map(start).collect::<Result<Vec<_>, _>>()?;
    for mut rank in ranks {
        assert!(rank.wait()?.success(), "a rank failed");
    }
    Ok(())
}

fn run(rank: usize, world_size: usize, port: u16, megabytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::connect(&StoreOptions { port, ..StoreOptions::default() })?;
    let options = GroupOptions { timeout: Duration::from_secs(120), ..GroupOptions::default() };
    let group = Rc::new(ProcessGroup::new(&store, rank, world_size, &options)?);
    let count = megabytes as i64 * 1_000_000 / 4;

    let mut tensor = Tensor::f_ones([count], (Kind::Float, Device::Cpu))?;
    report(&group, megabytes, "all_reduce_sum", || group.all_reduce_sum(&mut tensor))?;
    drop(tensor);

    // Parameters of a million elements each. The backward pass only writes gradients.
    let options = (Kind::Float, Device::Cpu);
    let gradients = Tensor::f_zeros([count / 1_000_000 * 1_000_000], options)?;
    let parameters = (0..count / 1_000_000).map(|i| {
        let parameter = Tensor::f_zeros([1_000_000], options)?.f_set_requires_grad(true)?;
        set_gradient(&parameter, &gradients.f_narrow(0, i * 1_000_000, 1_000_000)?)?;
        Ok(parameter)
    });
    let parameters: Vec<Tensor> = parameters.collect::<Result<_, TchError>>()?;
    let loss = || parameters.iter().map(|parameter| parameter.sum(Kind::Float)).sum::<Tensor>();
    report(&group, megabytes, "backward pass", || loss().f_backward())?;
    let borrowed: Vec<&Tensor> = parameters.iter().collect();
    for bf16 in [false, true] {
        let options = ReducerOptions { bf16, ..ReducerOptions::default() };
        let mut reducer = Reducer::new(group.clone(), &borrowed, &gradients, &options)?;
        let what = if bf16 { "backward pass with reduction in bf16" } else { "backward pass with reduction" };
        report(&group, megabytes, what, || reducer.backward(&loss()))?;
    }
    Ok(())
}

/// Measures `body` several times, with all ranks starting together. Rank 0 prints the median.
fn report(
    group: &ProcessGroup,
    megabytes: usize,
    what: &str,
    mut body: impl FnMut() -> Result<(), TchError>,
) -> Result<(), TchError> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        group.barrier()?;
        let started = Instant::now();
        body()?;
        times.push(started.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    if group.rank() == 0 {
        let speed = megabytes as f64 / 1000.0 / median.as_secs_f64();
        println!("{what} of {megabytes} MB on {} ranks: {median:.3?} ({speed:.2} GB/s)", group.world_size());
    }
    Ok(())
}
