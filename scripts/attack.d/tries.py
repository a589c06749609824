"""Bookkeeping of attacks: tries and failures."""

import random
import threading
import time
import traceback

from processes import Failed, remove

# Number of failures of an attack that are printed; all are in the file of --json.
SHOWN = 5
# After this many failures an attack ends: each may take a whole time limit.
MAX_FAILURES = 50

_print = threading.Lock()


def show(text):
    with _print:
        print(text, flush=True)


class TooManyFailures(Exception):
    """The attack has failed often enough."""


class Attack:
    """One attack: a number of tries, each of which fails or not."""

    def __init__(self, name, count, folder, seed, keep):
        self.name, self.count, self.folder, self.keep = name, count, folder, keep
        # Of its own, so that the tries do not depend on the other attacks.
        self.random = random.Random(f"{seed} {name}")
        self.tries, self.failures, self.seconds = 0, [], 0.0

    def share(self, part):
        """Number of tries of a part of the attack, at least one."""
        return max(1, round(self.count * part))

    def attempt(self, title, function, *arguments):
        """Calls function(folder, *arguments) with a new folder, which is removed afterwards. Returns its result, or None on failure."""
        self.tries += 1
        folder = self.folder / f"try-{self.tries}"
        folder.mkdir(parents=True)
        try:
            result = function(folder, *arguments)
        except Exception as error:
            # Also an error of Python: a program has written something that it should not.
            text = str(error) if isinstance(error, Failed) else traceback.format_exc()
            self.fail(f"{title}: {text}", folder)
            return None
        remove(folder)
        return result

    def fail(self, text, folder=None):
        """Records a failure."""
        kept = f"\nfiles: {folder}" if self.keep and folder else ""
        self.failures.append(text + kept)
        if len(self.failures) <= SHOWN:
            show(f"{self.name}, try {self.tries}: {text}{kept}\n")
        if not self.keep and folder:
            remove(folder)
        if len(self.failures) >= MAX_FAILURES:
            raise TooManyFailures

    def run(self, function, programs):
        """Runs the attack."""
        start = time.monotonic()
        self.folder.mkdir(parents=True)
        try:
            function(self, programs)
        except TooManyFailures:
            show(f"{self.name}: ended after {len(self.failures)} failures\n")
        except Exception as error:
            # Without its data or its undisturbed run there is no attack, which must not look like a success.
            text = str(error) if isinstance(error, Failed) else traceback.format_exc()
            self.failures.append(f"cannot run: {text}")
            show(f"{self.name}: cannot run: {text}\n")
        self.seconds = time.monotonic() - start

    def row(self):
        return {"attack": self.name, "tries": self.tries, "failures": len(self.failures), "seconds": round(self.seconds, 1)}
