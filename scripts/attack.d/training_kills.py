"""Kills training runs and ranks. The same command again, or a restart, ends like an undisturbed run."""

import os
import signal
import time

from data_sets import check_checkpoint, check_run, data_set, latest_checkpoint, results, settings, training
from processes import Failed, remove

# Two checkpoints between evaluations, across the end of an epoch.
STEPS = ("--max-steps", "30", *settings("train.save_every=24", "train.eval_every=64"))


def kill_runs(attack, programs):
    """Kills single processes."""
    data = attack.folder / "data"
    data_set(programs, data, 40, 20)
    whole = attack.folder / "whole"
    seconds = programs.run(training(programs, data, whole, *STEPS)).succeeds().seconds
    expected = results(whole)
    check_run(whole, data, expected)
    out = attack.folder / "killed"
    command = training(programs, data, out, *STEPS)

    def one(_folder, moment, last):
        ended = programs.kill(command, moment)
        if ended.code == -9:
            checkpoint = latest_checkpoint(out)
            if checkpoint:
                check_checkpoint(checkpoint)
            if not last:
                return
            ended = programs.run(command)
        try:
            ended.succeeds()
            check_run(out, data, expected)
        finally:
            remove(out)

    for number in range(attack.count):
        moment = seconds * attack.random.uniform(0.0, 0.8)
        attack.attempt(f"kill of a run after {moment:.3f} s", one, moment, number + 1 == attack.count)


def kill_ranks(attack, programs):
    """Kills ranks of runs that restart."""
    data = attack.folder / "data"
    data_set(programs, data, 40, 20)
    launch = (*STEPS, "--nproc", "2")
    whole = attack.folder / "whole"
    seconds = programs.run(training(programs, data, whole, *launch)).succeeds().seconds
    expected = results(whole)
    limit = 60 * programs.patience

    def one(folder, kills):
        out = folder / "run"
        with programs.start(training(programs, data, out, *launch, "--max-restarts", str(kills + 1))) as launcher:
            killed = {}
            for moment in (attack.random.uniform(0.1, 0.9) * seconds for _ in range(kills)):
                ranks = wait_for_ranks(launcher, killed, limit)
                if not ranks or launcher.has_ended(moment):
                    break
                pid = attack.random.choice(sorted(ranks))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    # The ranks have ended, and the launcher is about to.
                    break
                killed.update(ranks)
            launcher.end(2 * limit).succeeds()
            check_run(out, data, expected)
            require_no_ranks(launcher)
        return max(1, len(killed) // 2)

    remaining = attack.count
    while remaining > 0:
        kills = min(remaining, attack.random.randint(1, 4))
        done = attack.attempt(f"{kills} kills of ranks", one, kills) or kills
        # Each kill is a try.
        attack.tries += done - 1
        remaining -= done


def wait_for_ranks(launcher, old, limit):
    """Waits for both ranks of the next attempt. Returns their environments by process id; empty if the launcher ends first."""
    start = time.monotonic()
    while not launcher.has_ended(0.02):
        ranks = {pid: variables for pid, variables in launcher.family().items() if "RANK" in variables and pid not in old}
        if {variables["RANK"] for variables in ranks.values()} == {"0", "1"}:
            return ranks
        if time.monotonic() - start > limit:
            raise Failed(f"no restart within {limit:.0f} s")
    return {}


def require_no_ranks(launcher, seconds=5.0):
    """Requires that the processes of a launcher that has ended end as well."""
    start = time.monotonic()
    while launcher.family():
        if time.monotonic() - start > seconds:
            raise Failed(f"processes {sorted(launcher.family())} are still running")
        time.sleep(0.05)
