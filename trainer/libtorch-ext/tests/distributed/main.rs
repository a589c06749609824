//! Tests of `libtorch_ext::distributed` with several processes: this binary starts itself once per rank.

mod collectives;
mod failures;
mod gather;
mod ranks;
mod reducer;
mod scatter;
