"""Trains GLM like the published benchmark, in plain PyTorch, and measures its speed.

Every choice of a question is a separate sequence, padded to 512 positions, so the context is computed for each choice. Questions
come from the shards of glm-prep. Reading and encoding them is not timed, which favours this program.

  padded_baseline.py --data DIR --preset base --checkpoint-activations --questions 3
"""

import argparse
import ctypes
import json
import resource
import statistics
import sys
import time

import torch

import cloze_data
import padded_model

STEP = 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder that holds shards/")
    parser.add_argument("--split", default="train")
    parser.add_argument("--skip", type=int, default=None, metavar="S",
                        help="skip the first S questions and take the next ones; default: questions spread evenly over the split")
    parser.add_argument("--questions", type=int, default=3, metavar="N", help="timed questions")
    parser.add_argument("--warmup", type=int, default=1, metavar="W", help="untimed questions before the timed ones")
    parser.add_argument("--micro-batch", type=int, default=1, metavar="K",
                        help="questions per forward pass; with more than one, missing choices are computed as copies")
    parser.add_argument("--batch-size", type=int, default=None, metavar="M",
                        help="questions per optimizer step; default: one step after all timed questions")
    parser.add_argument("--preset", default="base", choices=list(padded_model.PRESETS))
    parser.add_argument("--weights", default=None, metavar="FILE.pt", help="published weights instead of random ones")
    parser.add_argument("--heads", type=int, default=None, help="attention heads of --weights; default: those of the preset")
    parser.add_argument("--checkpoint-activations", action="store_true", help="recompute each layer in the backward pass")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="bf16: autocast, master weights in fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--system-malloc", action="store_true",
                        help="return freed memory to the system, the default behaviour of the C library; slower")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dump-loss", action="store_true",
                        help="only print loss and gradient norm of every micro-batch, in fp64 without dropout")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    counts = ("questions", "micro_batch", "threads", "batch_size")
    for name in counts:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.warmup < 0 or (args.skip or 0) < 0:
        parser.error("--warmup and --skip must be at least 0")
    return args


def keep_freed_memory():
    """Configures glibc to keep freed memory. By default it maps and unmaps memory for every large tensor, and clearing the pages
    takes a third of the CPU time. Returns False for C libraries without mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    m_trim_threshold, m_mmap_max = -1, -4
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, -1))


def make_model(args, dtype, dropout):
    options = {"dropout": dropout, "recompute": args.checkpoint_activations}
    layers, hidden, heads = padded_model.PRESETS[args.preset]
    if args.weights:
        return padded_model.load(args.weights, args.heads or heads, dtype, **options)
    return padded_model.Glm(layers, hidden, heads, **options).initialise().to(dtype)


def micro_batch(questions):
    """A batch of questions in the published form, padded to the largest number of choices."""
    widest = max(len(question.choices) for question in questions)
    inputs = [cloze_data.padded_question(question, widest) for question in questions]
    return {name: torch.stack([torch.as_tensor(one[name]) for one in inputs]) for name in inputs[0]}


def batches(questions, size):
    return [micro_batch(questions[i:i + size]) for i in range(0, len(questions), size)]


def forward_backward(model, batch, precision, batch_size):
    """Accumulates gradients of a micro-batch for an optimizer step of `batch_size` questions; returns its mean loss."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = padded_model.loss(model(batch).float() if precision == "bf16" else model(batch), batch)
    (loss * (len(batch["label"]) / batch_size)).backward()
    return loss.item()


def optimizer_step(model, optimizer):
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return norm.item()


def dump(args, questions):
    """Loss and gradient norm of every micro-batch, in fp64 and without dropout."""
    model = make_model(args, torch.float64, 0.0).train()
    rows = []
    for place, batch in enumerate(batches(questions, args.micro_batch)):
        model.zero_grad()
        loss = forward_backward(model, batch, "fp32", len(batch["label"]))
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()]).item()
        ids = [question.example_id for question in questions[place * args.micro_batch:(place + 1) * args.micro_batch]]
        rows.append({"example_ids": ids, "loss": loss, "gradient_norm": norm})
    return rows


def measure(args, warmup, questions):
    """Trains; returns the seconds of every micro-batch and of every optimizer step."""
    torch.manual_seed(args.seed)
    model = make_model(args, torch.float32, args.dropout).train()
    optimizer = padded_model.optimizer(model, 1e-5)
    batch_size = args.batch_size or len(questions)
    for batch in batches(warmup, args.micro_batch):
        forward_backward(model, batch, args.precision, batch_size)
    # The first step allocates the optimizer's state, so it is never timed.
    if not warmup:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
    optimizer_step(model, optimizer)

    passes, steps, losses = [], [], []
    since_step = 0
    timed = batches(questions, args.micro_batch)
    for number, batch in enumerate(timed):
        started = time.perf_counter()
        losses.append(forward_backward(model, batch, args.precision, batch_size))
        passes.append(time.perf_counter() - started)
        since_step += len(batch["label"])
        if since_step >= batch_size or number == len(timed) - 1:
            started = time.perf_counter()
            optimizer_step(model, optimizer)
            steps.append(time.perf_counter() - started)
            since_step = 0
    return passes, steps, losses, timed


def report(args, passes, steps, losses, timed):
    questions = sum(len(batch["label"]) for batch in timed)
    # Includes copies of missing choices.
    sequences = sum(batch["ids"].shape[0] * batch["ids"].shape[1] for batch in timed)
    real = [batch["real"] for batch in timed]
    seconds_per_question = sum(passes) / questions
    step = statistics.median(steps)
    length = sum(int(((batch["sep"] + batch["counts"].sum(-1)) * batch["real"]).sum()) for batch in timed)
    scored = sum(int((batch["counts"].sum(-1) * batch["real"]).sum()) for batch in timed)
    return {
        "questions_per_second": STEP / (STEP * seconds_per_question + step),
        "forward_backward_questions_per_second": 1 / seconds_per_question,
        "choices_per_second": sum(int(mask.sum()) for mask in real) / sum(passes),
        "forward_backward_seconds": passes,
        "optimizer_step_seconds": steps,
        "combined_batch_size": STEP,
        "questions": questions,
        "mean_choices": sum(int(mask.sum()) for mask in real) / questions,
        "positions_computed": sequences * cloze_data.SEQUENCE / questions,
        "positions_that_differ_from_padding": length / questions,
        "mean_scored": scored / questions,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "loss": sum(losses) / len(losses),
        "preset": args.preset,
        "recomputation": args.checkpoint_activations,
        "dropout": args.dropout,
        "precision": args.precision,
        "micro_batch": args.micro_batch,
        "keeps_freed_memory": args.keeps_freed_memory,
        "device": "cpu",
        "threads": args.threads,
        "torch": torch.__version__,
    }


def print_report(result):
    how = "with" if result["recomputation"] else "without"
    print(f"GLM-{result['preset']} as published, {how} recomputation, {result['precision']}, dropout {result['dropout']}, "
          f"{result['threads']} threads, torch {result['torch']}")
    print(f"timed: {result['questions']} questions with {result['mean_choices']:.2f} choices, {result['micro_batch']} per forward pass")
    print(f"forward and backward   {result['forward_backward_questions_per_second']:.4f} questions/s, "
          f"{result['choices_per_second']:.3f} choices/s")
    print(f"optimizer step         {statistics.median(result['optimizer_step_seconds']):.3f} s")
    print(f"both, {STEP} per step    {result['questions_per_second']:.4f} questions/s")
    print(f"per question           {result['positions_computed']:,.0f} positions computed, "
          f"{result['positions_that_differ_from_padding']:,.0f} of them not padding, {result['mean_scored']:.1f} scored")
    print(f"peak memory            {result['peak_memory_bytes'] / 1e9:.2f} GB")
    print(f"mean loss              {result['loss']:.4f}")


def main():
    args = arguments()
    args.keeps_freed_memory = not args.system_malloc and keep_freed_memory()
    torch.set_num_threads(args.threads)
    split = cloze_data.Split(args.data, args.split)
    if args.skip is None:
        rows = split.spread(args.questions)
    else:
        rows = list(range(args.skip, min(args.skip + args.questions, len(split))))
    if not rows:
        raise SystemExit(f"the split has {len(split)} questions")
    questions = [split[row] for row in rows]
    if args.dump_loss:
        for row in dump(args, questions):
            print(json.dumps(row))
        return
    # The last questions have the most choices; warming up on them allocates the memory that they need.
    warmup = (questions[::-1] * args.warmup)[:args.warmup]
    result = report(args, *measure(args, warmup, questions))
    if args.json:
        print(json.dumps(result))
    else:
        print_report(result)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
