//! `libtorch_ext::distributed` with real processes: this binary starts itself once for every rank.

mod collectives;
mod failures;
mod ranks;
mod reducer;
