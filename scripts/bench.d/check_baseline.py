"""Compares padded_baseline.py with outputs of the published code: the encoding of every choice, scores, loss, every gradient
and 20 optimizer steps of a tiny GLM. The exit code is 1 if anything differs. `scripts/bench train` runs it first.

  check_baseline.py --program target/release/glm-prep
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.flop_counter import FlopCounterMode

import cloze_data
import flops
import padded_baseline
import padded_model

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "model/tiny/200000/mp_rank_00_model_states.pt"
HEADS = 4
SPLITS = {"train": "train", "val": "dev"}


class Checks:
    def __init__(self):
        self.failed = 0

    def equal(self, what, differences, of):
        self.line(what, differences == 0, f"{differences} of {of:,} differ")

    def near(self, what, got, expected, tolerance):
        """Checks the largest difference, relative for numbers above 1."""
        got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
        if got.shape != expected.shape:
            self.line(what, False, f"shape {got.shape}, expected {expected.shape}")
            return
        worst = float(np.max(np.abs(got - expected) / np.maximum(1.0, np.abs(expected))))
        self.line(what, worst <= tolerance, f"{got.size:,} numbers, largest difference {worst:.1e}, allowed {tolerance:.0e}")

    def line(self, what, good, text):
        self.failed += not good
        print(f"{'ok    ' if good else 'FAILED'} {what}: {text}")


def ingest(program, fixtures, folder):
    for name in ("train", "val"):
        shutil.copy(fixtures / "cloze/passages.jsonl", Path(folder, f"{name}.jsonl"))
    subprocess.run([program, "ingest", str(folder), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def check_encoding(checks, fixtures, splits):
    """Compares both forms with the published encoding, field by field."""
    rows = pq.read_table(fixtures / "cloze/expected.parquet").to_pylist()
    expected = {(row["guid"], row["choice_no"]): row for row in rows}
    padded = packed = seen = 0
    for split in splits.values():
        for number in range(len(split)):
            question = split[number]
            unpacked = unpack(question)
            for choice, tokens in enumerate(question.choices):
                want = expected[question.example_id, choice]
                pad = [0] * (cloze_data.SEQUENCE - want["length"])
                got = cloze_data.padded_choice(question, tokens)
                lists = {"ids": got["ids"], "position": got["position"][0], "block_position": got["position"][1],
                         "target": got["target"], "loss_mask": got["counts"]}
                padded += any(value.tolist() != want[name] + pad for name, value in lists.items()) or got["sep"] != want["sep"]
                packed += any(unpacked[choice][name] != want[name] for name in unpacked[choice])
                seen += 1
    checks.equal("encoding, padded form", padded, len(expected))
    checks.equal("encoding, packed form", packed, len(expected))
    checks.equal("choices of the shards", abs(seen - len(expected)), len(expected))


def unpack(question):
    """The sequence of each choice, from the packed form."""
    choices = {}
    for row, numbers in zip(cloze_data.packed_rows(question), cloze_data.rows_of(question).values()):
        for place, number in enumerate(numbers):
            sees = (row["piece"] <= 1) | (row["piece"] == place + 2)
            target = row["target"][row["choice"] == number]
            scored = row["scored"][row["scored_at"][row["choice"] == number]]
            at = np.flatnonzero(sees)
            choices[number] = {
                "sep": row["sep"],
                **{name: row[name][sees].tolist() for name in ("ids", "position", "block_position")},
                "target": [0] * row["sep"] + target.tolist(),
                "loss_mask": np.isin(at, scored).astype(int).tolist(),
            }
    return choices


def check_scores(checks, fixtures, splits):
    """Checks every choice of every question; the tiny model has 512 words, so ids are taken modulo 512."""
    golden = json.loads((fixtures / "model/scores_fp64.json").read_text())
    model = padded_model.load(fixtures / WEIGHTS, HEADS, torch.float64, dropout=0.0).eval()
    for name, split in splits.items():
        got, want = [], []
        with torch.no_grad():
            for number in range(len(split)):
                batch = padded_baseline.micro_batch([split[number]])
                batch["ids"] %= 512
                batch["target"] %= 512
                got += model(batch)[0].tolist()
                want += golden[SPLITS[name]][number]["logits"]
        checks.near(f"scores of every {name} question, fp64", got, want, 1e-9)


def golden_batch(fixtures):
    arrays = np.load(fixtures / "model/batch4.npz")
    names = {"ids": "text", "position": "position", "target": "target", "counts": "logit_mask", "sep": "mask"}
    batch = {name: torch.as_tensor(arrays[of].astype(np.int64)) for name, of in names.items()}
    return batch | {"real": torch.as_tensor(arrays["loss_mask"] > 0), "label": torch.as_tensor(arrays["label"].astype(np.int64))}


def check_gradients(checks, fixtures):
    golden = json.loads((fixtures / "model/model_golden.json").read_text())["fp64"]
    gradients = np.load(fixtures / "model/grads_fp64.npz")
    batch = golden_batch(fixtures)
    for recompute in (False, True):
        how = "with" if recompute else "without"
        model = padded_model.load(fixtures / WEIGHTS, HEADS, torch.float64, dropout=0.0, recompute=recompute).train()
        scores = model(batch)
        loss = padded_model.loss(scores, batch)
        loss.backward()
        grads = {name: parameter.grad for name, parameter in model.named_parameters()}
        total = torch.nn.utils.get_total_norm(list(grads.values())).item()
        checks.near(f"scores of the batch, fp64, {how} recomputation", scores.detach().numpy(),
                    golden["logits_incl_padded_choices"], 1e-9)
        checks.near(f"loss, fp64, {how} recomputation", loss.item(), golden["loss_no_float_cast"], 1e-9)
        checks.near(f"gradient norms, fp64, {how} recomputation", [grads[name].norm().item() for name in golden["grad_norms"]],
                    list(golden["grad_norms"].values()), 1e-9)
        checks.near(f"total gradient norm, fp64, {how} recomputation", total, golden["total_grad_norm"], 1e-9)
        # The golden gradients are stored in fp32.
        checks.near(f"every gradient, {how} recomputation", np.concatenate([grads[name].numpy().ravel() for name in gradients]),
                    np.concatenate([gradients[name].ravel() for name in gradients]), 1e-6)


def check_training(checks, fixtures):
    """Checks optimizer, clipping and schedule: 20 steps on one batch in fp32."""
    golden = json.loads((fixtures / "model/model_golden.json").read_text())
    rows = golden["curve_fixed_batch"]["rows"]
    batch = golden_batch(fixtures)
    model = padded_model.load(fixtures / WEIGHTS, HEADS, dropout=0.0).train()
    optimizer = padded_model.optimizer(model, 0.0)
    losses, norms = [], []
    for step, row in enumerate(rows):
        rate = padded_model.learning_rate(step, 1e-3, len(rows))
        if abs(rate - row["lr"]) > 1e-12:
            checks.line("learning rates", False, f"{rate} at step {step}, expected {row['lr']}")
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses.append(padded_baseline.forward_backward(model, batch, "fp32", len(batch["label"])))
        norms.append(padded_baseline.optimizer_step(model, optimizer))
    checks.near("loss of 20 steps, fp32", losses, [row["loss"] for row in rows], 1e-4)
    checks.near("gradient norm of 20 steps, fp32", norms, [row["grad_norm"] for row in rows], 1e-4)
    want = golden["curve_fixed_batch"]["final_param_norms"]
    got = {name: parameter.norm().item() for name, parameter in model.named_parameters()}
    checks.near("parameter norms after 20 steps, fp32", [got[name] for name in want], list(want.values()), 1e-4)


def check_flops(checks, split):
    """Compares the formulas of flops.py for the published form with torch's FLOP counter."""
    question = min((split[row] for row in range(len(split))), key=lambda one: len(one.choices))
    batch = padded_baseline.micro_batch([question])
    layers, hidden, heads = padded_model.PRESETS["tiny"]
    steps = flops.steps([flops.count_one(question)], layers, hidden)
    for recompute, (_, expected) in zip((True, False), steps):
        model = padded_model.Glm(layers, hidden, heads, recompute=recompute).initialise().train()
        with FlopCounterMode(display=False) as counter:
            padded_model.loss(model(batch), batch).backward()
        checks.near(f"FLOPs, {'with' if recompute else 'without'} recomputation", counter.get_total_flops(), expected, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=None, metavar="GLM_PREP", help="also check the encoding of the shards that this glm-prep writes")
    parser.add_argument("--fixtures", type=Path, default=ROOT / "tests/fixtures/golden", metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    padded_baseline.keep_freed_memory()
    torch.set_num_threads(args.threads)
    checks = Checks()
    check_gradients(checks, args.fixtures)
    check_training(checks, args.fixtures)
    if args.program:
        with tempfile.TemporaryDirectory(prefix="glm-check-") as folder:
            ingest(args.program, args.fixtures, folder)
            splits = {name: cloze_data.Split(folder, name) for name in SPLITS}
            check_encoding(checks, args.fixtures, splits)
            check_scores(checks, args.fixtures, splits)
            check_flops(checks, splits["train"])
    if checks.failed:
        print(f"{checks.failed} checks failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
