//! What a simulation takes for granted, each with where it comes from.

use libtorch_ext::distributed::ReducerOptions;
use serde::Serialize;

use super::network::{Link, Network};
use super::timeline::Speeds;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// From the command line.
    Given,
    /// A setting of training, see `glm-trainer config`.
    Setting,
    /// Measured by this program on this machine.
    Measured,
    /// Counted in the data or in the model.
    Counted,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumption {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// Where the value comes from.
    pub origin: Origin,
    /// Why this value, or what it says.
    pub reason: String,
}

/// Speed of a rank's passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ComputeSpeed {
    /// So many operations a second, times 10¹².
    Teraflops(f64),
    /// That of a large matrix product on this machine's device.
    Measured,
}

/// Values that somebody gave; each has a default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Given {
    /// Speed of a rank's passes.
    pub compute: Option<ComputeSpeed>,
    /// Bytes of memory a second, times 10⁹.
    pub memory_gigabytes: Option<f64>,
    /// Least time of a block, microseconds.
    pub launch_us: Option<f64>,
    /// Bits a second between ranks of a machine, times 10⁹.
    pub link_gbps: Option<f64>,
    /// Bits a second of a machine's network, times 10⁹.
    pub network_gbps: Option<f64>,
    /// Latency of a message, microseconds.
    pub latency_us: Option<f64>,
    /// Ranks of a machine.
    pub ranks_per_node: Option<usize>,
    /// Size of a bucket but the first, in MiB.
    pub bucket_mib: Option<f64>,
}

/// The machine that is assumed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    pub(super) speeds: Speeds,
    pub(super) network: Network,
    /// Bytes of the first bucket and of the others.
    pub(super) bucket_bytes: [u64; 2],
    pub(super) assumptions: Vec<Assumption>,
}

impl Given {
    /// All values. Defaults are those of machines with eight H100, after the manufacturer's figures. `measured` is this machine's speed in operations a second, where [`ComputeSpeed::Measured`] asked for it.
    pub(super) fn machine(&self, measured: Option<f64>, first_bucket: usize, bucket: usize) -> Machine {
        let mut assumptions = Vec::new();
        let mut assume = |name, unit, known: Option<(f64, Origin, &str)>, default: f64, why_default: &str| {
            let (value, origin, reason) = known.unwrap_or((default, Origin::Default, why_default));
            assumptions.push(Assumption { name, value, unit, origin, reason: reason.to_owned() });
            value
        };
        let given = |value: Option<f64>| value.map(|value| (value, Origin::Given, ""));
        let speed = match (self.compute, measured) {
            (Some(ComputeSpeed::Teraflops(value)), _) => given(Some(value)),
            (Some(ComputeSpeed::Measured), Some(speed)) => {
                Some((speed / 1e12, Origin::Measured, "a large matrix product on this machine's device"))
            }
            (Some(ComputeSpeed::Measured), None) | (None, _) => None,
        };
        let teraflops = assume("speed of a rank", "TFLOP/s", speed, 300.0, "30 % of an H100's 989, bf16, dense");
        let memory = assume("memory of a rank", "GB/s", given(self.memory_gigabytes), 2700.0, "80 % of an H100's 3,350");
        let launch =
            assume("least time of a block", "µs", given(self.launch_us), 500.0, "some 100 kernels of 5 µs, both passes");
        let link = assume("between ranks", "Gb/s", given(self.link_gbps), 2880.0, "80 % of an H100's 3,600 one way, NVLink");
        let network =
            assume("network of a machine", "Gb/s", given(self.network_gbps), 360.0, "90 % of 400, for all its ranks together");
        let latency = assume("latency of a message", "µs", given(self.latency_us), 5.0, "between ranks and between machines");
        let ranks_per_node = self.ranks_per_node.map(|ranks| ranks as f64);
        let ranks_per_node = assume("ranks of a machine", "", given(ranks_per_node), 8.0, "eight GPUs") as usize;
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let usual = ReducerOptions::default();
        let set = |bytes, usual, key| (bytes != usual).then(|| (mib(bytes), Origin::Setting, key));
        let first_set = set(first_bucket, usual.first_bucket, "distributed.first_bucket_mib");
        let bucket_set = given(self.bucket_mib).or(set(bucket, usual.bucket, "distributed.bucket_mib"));
        let reducers = "of c10d's Reducer, as PyTorch has it";
        let first_bucket = assume("first bucket", "MiB", first_set, mib(first_bucket), reducers);
        let bucket = assume("other buckets", "MiB", bucket_set, mib(bucket), "the same");
        let carrier = |gigabits: f64| Link { bytes_per_second: gigabits * 1e9 / 8.0, latency: latency * 1e-6 };
        Machine {
            speeds: Speeds { flops_per_second: teraflops * 1e12, memory_bytes_per_second: memory * 1e9, launch: launch * 1e-6 },
            network: Network { inside: carrier(link), between: carrier(network), ranks_per_node: ranks_per_node.max(1) },
            bucket_bytes: [first_bucket, bucket].map(|mib| (mib * f64::from(1 << 20)) as u64),
            assumptions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_says_where_it_comes_from() {
        let given =
            Given { compute: Some(ComputeSpeed::Measured), link_gbps: Some(80.0), ranks_per_node: Some(4), ..Given::default() };
        let machine = given.machine(Some(2e11), 1 << 20, 25 << 20);
        assert_eq!((machine.speeds.flops_per_second, machine.network.inside.bytes_per_second), (2e11, 1e10));
        assert_eq!((machine.network.ranks_per_node, machine.bucket_bytes), (4, [1 << 20, 25 << 20]));
        let origin = |name| machine.assumptions.iter().find(|assumption| assumption.name == name).expect("there").origin;
        assert_eq!(origin("speed of a rank"), Origin::Measured);
        assert_eq!(origin("between ranks"), Origin::Given);
        assert_eq!(origin("network of a machine"), Origin::Default);
        assert_eq!(Given::default().machine(None, 1, 1).assumptions[0].origin, Origin::Default);
    }
}
