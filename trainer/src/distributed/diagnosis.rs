//! Diagnosis of failures: finds the rank that caused an error of this one.

use std::time::{Duration, Instant};

use libtorch_ext::distributed::Store;

use super::context::RankContext;
use super::error::DistributedError;
use super::failure::{self, Failure};
use super::heartbeat::{self, Heartbeat, Phase};

/// Finds the rank that caused an error of this one: a rank with a published failure, a rank that sends no heartbeats, or the
/// rank that is furthest behind. `waiting` returns this rank's step and phase if it has waited for longer than the timeout.
/// Returns `None` if all other ranks are alive and none is late.
///
/// Takes several heartbeat intervals if no failure was published. If the store does not respond, its server is to blame.
pub(super) fn find_failed_peer(
    context: &RankContext,
    store: &Store,
    waiting: impl FnOnce() -> Option<(u64, Phase)>,
) -> Option<DistributedError> {
    // This rank has already waited for the timeout or lost a connection, so it is not patient any more.
    let timeout = store.timeout();
    store.set_timeout(timeout.min(PATIENCE));
    let found = diagnose(context, store, waiting).unwrap_or_else(Some);
    store.set_timeout(timeout);
    found
}

/// Maximum time that a rank which has failed or lost another waits for a response of the store.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

fn diagnose(
    context: &RankContext,
    store: &Store,
    waiting: impl FnOnce() -> Option<(u64, Phase)>,
) -> Result<Option<DistributedError>, DistributedError> {
    // Enough for three heartbeats, and for a launcher to notice that a process has exited.
    let interval = heartbeat::interval(context.timeout);
    let window = (3 * interval).max(Duration::from_secs(2));
    let start = Instant::now();
    let before = Heartbeat::read_all(context, store).map_err(|error| context.store_error(error))?;
    loop {
        if let Some(error) = published_failure(context, store)? {
            return Ok(Some(error));
        }
        if start.elapsed() > window {
            break;
        }
        std::thread::sleep(interval.min(Duration::from_millis(100)));
    }
    let after = Heartbeat::read_all(context, store).map_err(|error| context.store_error(error))?;
    Ok(silent_or_late_peer(context.rank, waiting(), &before, &after, start.elapsed()))
}

/// Returns the failure of another rank, if one was published.
pub(super) fn published_failure(context: &RankContext, store: &Store) -> Result<Option<DistributedError>, DistributedError> {
    let failures = failure::all(store, context.attempt, context.world_size);
    let failures = failures.map_err(|error| context.failure_error(error))?;
    Ok(peer_failure(context.rank, failures))
}

/// Returns the root cause among the failures that `rank` has not caused.
fn peer_failure(rank: usize, failures: Vec<Failure>) -> Option<DistributedError> {
    let of_others = |failure: &Failure| failure.rank != rank && failure.caused_by != Some(rank);
    let others: Vec<Failure> = failures.into_iter().filter(of_others).collect();
    let Failure { rank, host, pid, reason, caused_by } = failure::root_cause(&others)?.clone();
    Some(match caused_by {
        None => DistributedError::PeerFailed { rank, host, pid, reason: format!("failed: {reason}") },
        Some(rank) => DistributedError::FailureReported { rank, reason },
    })
}

/// Returns the other rank that sent no heartbeat between `before` and `after`. If there is none, and if this rank is `waiting`,
/// returns the rank that is furthest behind.
fn silent_or_late_peer(
    rank: usize,
    waiting: Option<(u64, Phase)>,
    before: &[Heartbeat],
    after: &[Heartbeat],
    window: Duration,
) -> Option<DistributedError> {
    let others = || after.iter().filter(|heartbeat| heartbeat.rank != rank);
    let failed = |peer: &Heartbeat, reason| DistributedError::PeerFailed {
        rank: peer.rank,
        host: peer.host.clone(),
        pid: peer.pid,
        reason,
    };
    let is_silent = |peer: &&Heartbeat| before.iter().any(|old| old.rank == peer.rank && old.count == peer.count);
    if let Some(peer) = others().find(is_silent) {
        let Heartbeat { step, phase, .. } = peer;
        let seconds = window.as_secs_f64();
        let reason = format!("has sent no heartbeat for at least {seconds:.1} s; it was last seen {phase} in step {step}");
        return Some(failed(peer, reason));
    }
    let (own_step, own_phase) = waiting?;
    let last = others().min_by_key(|heartbeat| (heartbeat.step, heartbeat.phase, heartbeat.rank))?;
    let Heartbeat { step, phase, seconds, .. } = last;
    let reason = format!(
        "is late: it has been {phase} in step {step} for {seconds:.0} s, while this rank is {own_phase} in step {own_step}"
    );
    ((*step, *phase) < (own_step, own_phase)).then(|| failed(last, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(rank: usize, count: u64, step: u64, phase: Phase) -> Heartbeat {
        Heartbeat { rank, host: "box".into(), pid: 7, count, step, phase, seconds: 61.0 }
    }

    #[test]
    fn a_silent_rank_takes_precedence_over_a_late_one() {
        let window = Duration::from_secs(3);
        let text = |before: &[Heartbeat], after: &[Heartbeat]| {
            silent_or_late_peer(0, Some((118, Phase::Reduce)), before, after, window).map(|error| error.to_string())
        };
        let before =
            [heartbeat(0, 1, 118, Phase::Reduce), heartbeat(1, 5, 117, Phase::Data), heartbeat(2, 5, 118, Phase::Reduce)];
        let mut after = before.clone();
        after[1].count += 3;
        assert_eq!(
            text(&before, &after).expect("a silent rank"),
            "rank 2 (host box, pid 7) has sent no heartbeat for at least 3.0 s; it was last seen reducing gradients in step 118"
        );
        after[2].count += 3;
        assert_eq!(
            text(&before, &after).expect("a late rank"),
            "rank 1 (host box, pid 7) is late: it has been waiting for data in step 117 for 61 s, while this rank is reducing \
             gradients in step 118"
        );
        assert!(silent_or_late_peer(0, None, &before, &after, window).is_none());
        after[1].step = 118;
        after[1].phase = Phase::Outcome;
        assert_eq!(text(&before, &after), None);
    }

    #[test]
    fn the_root_cause_is_reported() {
        let failure =
            |rank, reason: &str, caused_by| Failure { rank, host: "box".into(), pid: 7, reason: reason.into(), caused_by };
        let reported = failure(1, "rank 3 (host box, pid 9) has sent no heartbeat", Some(3));
        let text = |failures: &[Failure]| peer_failure(0, failures.to_vec()).map(|error| error.to_string());
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[failure(0, "own", None)]), None);
        assert_eq!(text(std::slice::from_ref(&reported)).expect("a report"), "rank 3 (host box, pid 9) has sent no heartbeat");
        let all = [reported, failure(2, "no space", None)];
        assert_eq!(text(&all).expect("a failure"), "rank 2 (host box, pid 7) failed: no space");
        assert_eq!(text(&[failure(1, "rank 0 is silent", Some(0))]), None);
    }
}
