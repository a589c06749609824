"""Processes that are stopped (SIGSTOP), as on a machine that freezes; and second Ctrl-Cs."""

import os
import secrets
import signal
import time

from data_sets import check_run, data_set, results, settings, training
from processes import Failed
from training_kills import require_no_ranks, wait_for_ranks

# Does not end by itself.
ENDLESS = settings("train.epochs=100000", "train.eval_every=0")
# Goes on for some seconds after a few steps.
LONG = ("--max-steps", "400", *settings("train.epochs=100000", "train.eval_every=0"))
# Seconds until a rank gives up waiting for another, and until everything must have ended.
TIMEOUT, BOUND = 5, 90
VICTIMS = ("rank 1", "rank 0", "launcher", "rank 0 by hand", "rank 1 by hand")


def until_it_trains(running, out, limit):
    """Waits until some steps are done."""
    start = time.monotonic()
    metrics = out / "metrics.jsonl"
    while not (metrics.is_file() and metrics.read_text().count("\n") > 2):
        if running.has_ended(0.02):
            running.end(1).require(False, "ended before the first step")
        if time.monotonic() - start > limit:
            raise Failed(f"no steps within {limit:.0f} s")


def stop_processes(attack, programs):
    data = attack.folder / "data"
    data_set(programs, data)
    options = settings(f"distributed.timeout={TIMEOUT}")
    long = (*LONG, *options, "--nproc", "2")
    whole = attack.folder / "whole"
    programs.run(training(programs, data, whole, *long)).succeeds()
    expected = results(whole)
    limit, bound = 60 * programs.patience, BOUND * programs.patience

    def rank(folder, victim):
        out = folder / "run"
        with programs.start(training(programs, data, out, *ENDLESS, *options, "--nproc", "2")) as launcher:
            ranks = wait_for_ranks(launcher, {}, limit)
            until_it_trains(launcher, out, limit)
            os.kill(next(pid for pid, variables in ranks.items() if variables["RANK"] == victim[-1]), signal.SIGSTOP)
            ended = launcher.end(bound).check()
            ended.require(ended.code == 1, f"exit code {ended.code} instead of 1")
            require_no_ranks(launcher)

    def of_launcher(folder, _victim):
        """The ranks train to their end, and the launcher ends when it continues."""
        out = folder / "run"
        with programs.start(training(programs, data, out, *long)) as launcher:
            until_it_trains(launcher, out, limit)
            launcher.send(signal.SIGSTOP)
            end_of_ranks(launcher, bound)
            launcher.send(signal.SIGCONT)
            launcher.end(bound).succeeds()
            check_run(out, data, expected)

    def by_hand(folder, victim):
        out, port = folder / "run", str(attack.random.randrange(12_000, 28_000))
        variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLM_STORE_SECRET": secrets.token_hex()}
        command = training(programs, data, out, *ENDLESS, *options)
        with programs.start(command, RANK="0", **variables) as first, programs.start(command, RANK="1", **variables) as second:
            until_it_trains(first, out, limit)
            stopped, other = (first, second) if victim == "rank 0 by hand" else (second, first)
            stopped.send(signal.SIGSTOP)
            other.end(bound).refuses()

    for number in range(attack.count):
        victim = VICTIMS[number % len(VICTIMS)]
        function = of_launcher if victim == "launcher" else by_hand if victim.endswith("by hand") else rank
        attack.attempt(f"stop of {victim}", function, victim)


def end_of_ranks(launcher, limit):
    """Waits until only the launcher, which is stopped, is left."""
    start = time.monotonic()
    while set(launcher.family()) - {launcher.pid}:
        if time.monotonic() - start > limit:
            raise Failed(f"ranks {sorted(set(launcher.family()) - {launcher.pid})} have not ended after {limit:.0f} s")
        time.sleep(0.1)


def interrupt_twice(attack, programs):
    data = attack.folder / "data"
    data_set(programs, data)

    def one(folder, several, pause):
        out = folder / "run"
        # Large steps, so that the second signal arrives during one.
        options = (*ENDLESS, *settings("data.batch_size=64", "model.hidden=64"), *(("--nproc", "2") if several else ()))
        with programs.start(training(programs, data, out, *options)) as running:
            until_it_trains(running, out, 60 * programs.patience)
            running.send(signal.SIGINT)
            running.has_ended(pause)
            running.send(signal.SIGINT)
            # 75: the step and its checkpoint were faster than the second signal.
            ended = running.end(60 * programs.patience).succeeds(75, 130)
            ended.require("killed by" not in ended.err, "a rank was killed by a signal")
            require_no_ranks(running)

    for number in range(attack.count):
        several, pause = number % 4 == 3, attack.random.uniform(0.001, 0.02)
        attack.attempt(f"two SIGINT {1000 * pause:.0f} ms apart", one, several, pause)
