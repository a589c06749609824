"""Strangers at the port of the store through which ranks meet. Training ends as without them."""

import contextlib
import socket

from data_sets import check_run, data_set, results, settings, training
from processes import Failed
from training_kills import require_no_ranks, wait_for_ranks

STEPS = ("--max-steps", "60", "--nproc", "2", *settings("train.eval_every=0", "distributed.timeout=15"))
# Lengths that no message has.
HUGE = (1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def send(sockets, port, data):
    """Sends data and keeps the connection. The store may close it at any time."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    sockets.append(connection)
    with contextlib.suppress(OSError):
        connection.sendall(data)


def half_message(sockets, port, _random, _launcher):
    """The first bytes of a message, and then nothing."""
    for length in (1, 2, 4, 8, 31, 33, 63, 64):
        send(sockets, port, b"\0" * length)
        send(sockets, port, b"\1" * length)


def huge_length(sockets, port, random, _launcher):
    """Lengths in both byte orders, alone and after bytes that may be taken for a proof."""
    for length in HUGE:
        for order in ("little", "big"):
            for before in (0, 1, 32, 64):
                number = length.to_bytes(8, order)
                send(sockets, port, random.randbytes(before) + number + b"key")


def idle(sockets, port, _random, _launcher):
    for _ in range(400):
        send(sockets, port, b"")


def garbage(sockets, port, random, _launcher):
    for _ in range(100):
        send(sockets, port, random.randbytes(random.randrange(1, 2000)))


def flood(sockets, port, _random, _launcher):
    for _ in range(4):
        send(sockets, port, b"k" * (64 << 20))


def drip(sockets, port, random, launcher):
    """One byte at a time, as long as training takes."""
    send(sockets, port, b"")
    while not launcher.has_ended(0.05):
        try:
            sockets[-1].sendall(random.randbytes(1))
        except OSError:
            send(sockets, port, b"")


KINDS = (half_message, huge_length, idle, garbage, drip, flood)


def run(attack, programs):
    data = attack.folder / "data"
    data_set(programs, data)
    whole = attack.folder / "whole"
    seconds = programs.run(training(programs, data, whole, *STEPS)).succeeds().seconds
    expected = results(whole)

    def one(folder, kind, moment):
        out = folder / "run"
        with programs.start(training(programs, data, out, *STEPS)) as launcher, contextlib.ExitStack() as stack:
            ranks = wait_for_ranks(launcher, {}, 60 * programs.patience)
            if not ranks:
                raise Failed("the ranks have ended before the strangers came")
            port = int(next(iter(ranks.values()))["MASTER_PORT"])
            if launcher.has_ended(moment):
                return
            sockets = []
            stack.callback(lambda: [connection.close() for connection in sockets])
            with contextlib.suppress(ConnectionError, TimeoutError, socket.timeout):
                kind(sockets, port, attack.random, launcher)
            # The connections are held until training has ended.
            launcher.end(60 * programs.patience).succeeds()
            check_run(out, data, expected)
            require_no_ranks(launcher)

    for number in range(attack.count):
        kind = KINDS[number % len(KINDS)]
        moment = attack.random.uniform(0.0, 0.5) * seconds
        attack.attempt(f"{kind.__name__} after {moment:.2f} s", one, kind, moment)
