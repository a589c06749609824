"""Checks of the model by the test binary: outputs of the published code, and dropout against the CPU."""

import json

from checks import for_the_record
from programs import Failed, Skipped

BUDGET = 60


def binary(name):
    def check(context):
        arguments = ["--exact", name, "--device", context.plan.device, "--data", context.package / "data/golden"]
        try:
            output, _ = context.programs.run("gpu", *arguments, budget=BUDGET)
        except Failed as failed:
            # A check outside its tolerance has printed its figures.
            output = failed.args[1] if len(failed.args) > 1 else ""
            if '"figures":[{' not in output:
                raise
        record = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
        if record["result"] == "SKIP":
            raise Skipped(record["note"])
        for figure in record["figures"]:
            figure["within"] = figure["value"] is not None and figure["value"] <= figure["tolerance"]
        return record["figures"]

    return check


def memory(context):
    if context.plan.device == "cpu":
        raise Skipped("there is no GPU")
    output, _ = context.programs.run("gpu_memory", "--test-threads=1", budget=BUDGET)
    return [for_the_record("tests", next(line for line in output.splitlines() if line.startswith("test result")))]


CHECKS = {name: binary(name) for name in ("scores", "gradients", "curves", "dropout", "generation")} | {"memory": memory}
