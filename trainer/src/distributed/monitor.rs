//! Signs of life: each rank tells the others through the store where it is, so that a rank that is gone, or stuck, can be
//! named by those who wait for it.
//!
//! A thread of each rank writes a [`Beat`] now and then. Nobody reads them while all goes well; [`Watch::culprit`] does when
//! something has gone wrong. No clocks are compared: a rank is silent if its beat does not change while one watches.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtorch_ext::distributed::Store;
use serde::{Deserialize, Serialize};
use tch::TchError;

use super::DistributedError;
use super::failure::{self, Failure, FailureError};

/// What a rank is doing, in the order in which a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the first step.
    Start,
    /// Waiting for its own data.
    Data,
    /// Forward pass, and backward passes that are not reduced.
    Compute,
    /// The backward pass in which gradients are added up, and the sums behind it: here one rank waits for another.
    Reduce,
    /// Looking at the outcome of a step.
    Outcome,
    /// Evaluation.
    Evaluation,
    /// Rank 0 writes a checkpoint.
    Checkpoint,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "starting",
            Self::Data => "waiting for data",
            Self::Compute => "computing",
            Self::Reduce => "adding up gradients",
            Self::Outcome => "reading the outcome",
            Self::Evaluation => "evaluating",
            Self::Checkpoint => "writing a checkpoint",
        })
    }
}

/// Where a rank is: a value in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// The rank.
    pub rank: usize,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Beats so far; it changes as long as the process runs.
    pub count: u64,
    /// The step it works on.
    pub step: u64,
    /// What it does there.
    pub phase: Phase,
    /// For how many seconds.
    pub seconds: f64,
}

/// What is needed to write and read beats.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) rank: usize,
    pub(super) world_size: usize,
    pub(super) attempt: u32,
    pub(super) host: String,
    pub(super) timeout: Duration,
    /// Who serves the store, and where, for messages.
    pub(super) server: &'static str,
    pub(super) address: String,
}

impl Place {
    fn key(&self, rank: usize) -> String {
        format!("glm/{}/beat/{rank}", self.attempt)
    }

    /// Time between two beats.
    fn interval(&self) -> Duration {
        (self.timeout / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// Calls of a store that nobody serves any more fail.
    pub(super) fn lost(&self, error: &impl fmt::Display) -> DistributedError {
        tracing::debug!("the store: {error}");
        DistributedError::StoreLost { server: self.server, address: self.address.clone() }
    }
}

#[derive(Debug)]
struct Status {
    step: u64,
    phase: Phase,
    since: Instant,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    status: Mutex<Status>,
    changed: Condvar,
}

impl Shared {
    /// The status is a few numbers, so a thread that panicked left nothing half done.
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do where a rank waits in vain and cannot be woken up. Only ending the process helps then.
pub type OnHang = Box<dyn Fn(DistributedError) + Send>;

/// Tells where this rank is, and finds out where others are.
#[derive(Debug)]
pub struct Watch {
    place: Place,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Writes the first beat and starts the thread that writes the others through `store`, a connection of its own.
    ///
    /// # Errors
    /// [`DistributedError`] where the store is gone or no thread can be started.
    pub(super) fn start(place: Place, store: Store, on_hang: OnHang) -> Result<Self, DistributedError> {
        let status = Status { step: 0, phase: Phase::Start, since: Instant::now(), ended: false };
        let shared = Arc::new(Shared { status: Mutex::new(status), changed: Condvar::new() });
        let beater = Beater { place: place.clone(), store, shared: Arc::clone(&shared), on_hang };
        beater.beat(0).map_err(|error| place.lost(&error))?;
        let thread = std::thread::Builder::new().name("beat".into()).spawn(move || beater.run());
        let thread =
            thread.map_err(|error| TchError::Torch(format!("cannot start the thread that gives signs of life: {error}")))?;
        Ok(Self { place, shared, thread: Some(thread) })
    }

    /// This rank is now here.
    pub fn at(&self, step: u64, phase: Phase) {
        let mut status = self.shared.lock();
        (status.step, status.phase, status.since) = (step, phase, Instant::now());
    }

    /// Finds out which other rank is the reason that something failed: one that said so itself or whose launcher did, one
    /// that gives no sign of life, or the one that is behind. `None`: all others are alive and where this one is.
    ///
    /// It takes a few beats where nobody has said anything.
    pub fn culprit(&self, store: &Store) -> Option<DistributedError> {
        find_culprit(&self.place, store, &self.shared)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It never panics on purpose, and there is nothing to be done if it did.
            let _ = thread.join();
        }
    }
}

/// The thread.
struct Beater {
    place: Place,
    store: Store,
    shared: Arc<Shared>,
    on_hang: OnHang,
}

/// Longest time between a failure somewhere and the end of a rank that waits: its own call fails earlier as a rule.
const GRACE: Duration = Duration::from_secs(8);

impl Beater {
    fn beat(&self, count: u64) -> Result<(), TchError> {
        let status = self.shared.lock();
        let beat = Beat {
            rank: self.place.rank,
            host: self.place.host.clone(),
            pid: std::process::id(),
            count,
            step: status.step,
            phase: status.phase,
            seconds: status.since.elapsed().as_secs_f64(),
        };
        drop(status);
        let json = serde_json::to_vec(&beat).map_err(|error| TchError::Torch(error.to_string()))?;
        self.store.set(&self.place.key(self.place.rank), &json)
    }

    fn run(self) {
        let (mut failed_since, mut lost) = (None::<Instant>, None);
        for count in 1.. {
            let status = self.shared.lock();
            let waited = self.shared.changed.wait_timeout_while(status, self.place.interval(), |status| !status.ended);
            let (status, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if status.ended {
                return;
            }
            let waits_for = (status.phase >= Phase::Reduce).then(|| status.since.elapsed());
            drop(status);
            // Whether another rank or the store is gone: then this one's calls fail too, or hang for ever. A store that is lost
            // stays lost, and c10d complains of every call.
            let look =
                || self.beat(count).map_err(FailureError::from).and_then(|()| failure::any(&self.store, self.place.attempt));
            let failed = lost.is_some()
                || look().unwrap_or_else(|error| {
                    lost = Some(self.place.lost(&error));
                    true
                });
            if failed {
                failed_since.get_or_insert_with(Instant::now);
            }
            let late = waits_for.is_some_and(|time| time > self.place.timeout + GRACE);
            let alone = failed_since.is_some_and(|since| since.elapsed() > GRACE) && waits_for.is_some_and(|time| time > GRACE);
            if late || alone {
                let found = lost.take().or_else(|| find_culprit(&self.place, &self.store, &self.shared));
                if let Some(error) = found {
                    (self.on_hang)(error);
                    return;
                }
            }
        }
    }
}

fn find_culprit(place: &Place, store: &Store, shared: &Shared) -> Option<DistributedError> {
    // Long enough for three beats, and for a launcher to see that a child has ended.
    let patience = (3 * place.interval()).max(Duration::from_secs(2));
    let start = Instant::now();
    let before = match beats(place, store) {
        Ok(beats) => beats,
        Err(error) => return Some(place.lost(&error)),
    };
    loop {
        let failures = match failure::all(store, place.attempt, place.world_size) {
            Ok(failures) => failures,
            Err(error) => return Some(place.lost(&error)),
        };
        if let Some(error) = cause_elsewhere(place.rank, failures) {
            return Some(error);
        }
        if start.elapsed() > patience {
            break;
        }
        std::thread::sleep(place.interval().min(Duration::from_millis(100)));
    }
    let after = match beats(place, store) {
        Ok(beats) => beats,
        Err(error) => return Some(place.lost(&error)),
    };
    let status = shared.lock();
    // Where this rank has not waited long, one that is behind is only on its way.
    let late = status.since.elapsed() >= place.timeout;
    let here = late.then_some((status.step, status.phase));
    drop(status);
    blame(place.rank, here, &before, &after, start.elapsed())
}

/// What other ranks that have failed say about the reason: that of one which failed by itself, else what one has found out about
/// another.
pub(super) fn cause_elsewhere(own: usize, failures: Vec<Failure>) -> Option<DistributedError> {
    let elsewhere = |failure: &Failure| failure.rank != own && failure.because_of != Some(own);
    let elsewhere: Vec<Failure> = failures.into_iter().filter(elsewhere).collect();
    let Failure { rank, host, pid, reason, because_of } = failure::first_cause(&elsewhere)?.clone();
    Some(match because_of {
        None => DistributedError::Peer { rank, host, pid, reason: format!("has failed: {reason}") },
        Some(rank) => DistributedError::Told { rank, reason },
    })
}

/// Who is to blame, if anybody is: among the others, who was silent between two looks at all beats, else who is farthest behind
/// `here`, where this rank has waited too long.
fn blame(
    own: usize,
    here: Option<(u64, Phase)>,
    before: &[Beat],
    after: &[Beat],
    between: Duration,
) -> Option<DistributedError> {
    let others = || after.iter().filter(|beat| beat.rank != own);
    let silent = others().find(|beat| before.iter().any(|old| old.rank == beat.rank && old.count == beat.count));
    let peer =
        |beat: &Beat, reason| Some(DistributedError::Peer { rank: beat.rank, host: beat.host.clone(), pid: beat.pid, reason });
    if let Some(beat) = silent {
        let Beat { step, phase, .. } = beat;
        let seconds = between.as_secs_f64();
        return peer(beat, format!("gives no sign of life for {seconds:.1} s or more; it was last seen {phase}, step {step}"));
    }
    let here = here?;
    let last = others().min_by_key(|beat| (beat.step, beat.phase, beat.rank))?;
    if (last.step, last.phase) < here {
        let Beat { step, phase, seconds, .. } = last;
        let reason = format!("is behind: it has been {phase}, step {step}, for {seconds:.0} s");
        return peer(last, format!("{reason}, while this one is {}, step {}", here.1, here.0));
    }
    None
}

/// The newest beats of all ranks that have given one.
fn beats(place: &Place, store: &Store) -> Result<Vec<Beat>, TchError> {
    let mut beats = Vec::with_capacity(place.world_size);
    for rank in 0..place.world_size {
        let key = place.key(rank);
        if store.check(&[&key])?
            && let Ok(beat) = serde_json::from_slice(&store.get(&key)?)
        {
            beats.push(beat);
        }
    }
    Ok(beats)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(rank: usize, count: u64, step: u64, phase: Phase) -> Beat {
        Beat { rank, host: "box".into(), pid: 7, count, step, phase, seconds: 61.0 }
    }

    fn text(before: &[Beat], after: &[Beat]) -> Option<String> {
        blame(0, Some((118, Phase::Reduce)), before, after, Duration::from_secs(3)).map(|error| error.to_string())
    }

    #[test]
    fn a_silent_rank_is_named_before_one_that_is_behind() {
        let before = [beat(0, 1, 118, Phase::Reduce), beat(1, 5, 117, Phase::Data), beat(2, 5, 118, Phase::Reduce)];
        let mut after = before.clone();
        after[1].count += 3;
        assert_eq!(
            text(&before, &after).expect("silent"),
            "rank 2 (host box, pid 7) gives no sign of life for 3.0 s or more; it was last seen adding up gradients, step 118"
        );
        after[2].count += 3;
        assert_eq!(
            text(&before, &after).expect("behind"),
            "rank 1 (host box, pid 7) is behind: it has been waiting for data, step 117, for 61 s, while this one is adding up \
             gradients, step 118"
        );
        assert!(blame(0, None, &before, &after, Duration::from_secs(3)).is_none());
        after[1].step = 118;
        after[1].phase = Phase::Outcome;
        assert_eq!(text(&before, &after), None);
    }

    #[test]
    fn the_first_cause_is_told_and_not_what_followed_from_it() {
        let failure =
            |rank, reason: &str, because_of| Failure { rank, host: "box".into(), pid: 7, reason: reason.into(), because_of };
        let followed = failure(1, "rank 3 (host box, pid 9) gives no sign of life", Some(3));
        let told = |failures: &[Failure]| cause_elsewhere(0, failures.to_vec()).map(|error| error.to_string());
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[failure(0, "own", None)]), None);
        assert_eq!(told(std::slice::from_ref(&followed)).expect("told"), "rank 3 (host box, pid 9) gives no sign of life");
        let all = [followed, failure(2, "no space", None)];
        assert_eq!(told(&all).expect("a cause"), "rank 2 (host box, pid 7) has failed: no space");
        assert_eq!(told(&[failure(1, "rank 0 is silent", Some(0))]), None);
    }

    #[test]
    fn phases_come_in_the_order_of_a_step() {
        use Phase::{Checkpoint, Compute, Data, Evaluation, Outcome, Reduce, Start};
        assert!([Start, Data, Compute, Reduce, Outcome, Evaluation, Checkpoint].is_sorted());
    }
}
