"""A check: a function that measures figures, each with a limit or for the record."""

import threading
import time
import traceback
from concurrent.futures import Future

from programs import Failed, Skipped


def at_most(name, value, limit, mode=""):
    return {"mode": mode, "name": name, "value": value, "tolerance": limit, "within": value is not None and value <= limit}


def at_least(name, value, limit, mode=""):
    return {"mode": mode, "name": name, "value": value, "minimum": limit, "within": value is not None and value >= limit}


def equal(name, found, expected, mode=""):
    return {"mode": mode, "name": name, "value": found, "expected": expected, "within": found == expected}


def for_the_record(name, value, mode=""):
    return {"mode": mode, "name": name, "value": value, "within": True}


class Context:
    """What all checks share: programs, folders, sizes, and results that several checks need."""

    def __init__(self, programs, package, scratch, plan):
        self.programs, self.package, self.scratch, self.plan = programs, package, scratch, plan
        self.shared, self.lock = {}, threading.Lock()

    def once(self, key, make):
        """The result of `make()`, which the first of several checks calls while the others wait."""
        with self.lock:
            first = key not in self.shared
            future = self.shared.setdefault(key, Future())
        if first:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        return future.result()


def run(name, check, context):
    """Runs a check; returns its record. An error of whatever kind fails this check only."""
    began = time.monotonic()
    record = {"name": name, "result": "PASS", "note": "", "figures": []}
    try:
        record["figures"] = check(context)
        outside = [figure for figure in record["figures"] if not figure["within"]]
        if outside:
            record["result"], record["note"] = "FAIL", "; ".join(map(described, outside))
        elif not record["figures"]:
            record["result"], record["note"] = "FAIL", "no figures"
        else:
            record["note"] = summary(record["figures"])
    except Skipped as reason:
        record["result"], record["note"] = "SKIP", str(reason)
    except Failed as reason:
        record["result"], record["note"] = "FAIL", str(reason.args[0])
    except Exception as error:
        record["result"], record["note"] = "FAIL", f"{type(error).__name__}: {error}"
        context.programs.log.add(f"check {name}", traceback.format_exc())
    record["seconds"] = round(time.monotonic() - began, 2)
    return record


def described(figure):
    limit = next(f"{text} {shown(figure[key])}" for key, text in LIMITS.items() if key in figure)
    place = f" at {figure['at']}" if figure.get("at") else ""
    mode = f"{figure['mode']}: " if figure["mode"] else ""
    return f"{mode}{figure['name']}: {shown(figure['value'])}{place}, expected {limit}"


def summary(figures):
    """The figure that is closest to its limit, and how many there are."""
    judged = [figure for figure in figures if figure.get("tolerance")]
    if not judged:
        return "; ".join(f"{figure['name']}: {shown(figure['value'])}" for figure in figures[:2])
    closest = max(judged, key=lambda figure: figure["value"] / figure["tolerance"])
    return f"{len(figures)} figures; the closest to its limit is {described(closest)}"


LIMITS = {"tolerance": "at most", "minimum": "at least", "expected": ""}


def shown(value):
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
