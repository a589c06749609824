"""Trains GLM like the published benchmark, in plain PyTorch, and measures its speed.

Every choice of a question is a separate sequence, padded to 512 positions, so the context is computed for each choice. Questions
come from the shards of glm-prep, or are synthetic with the lengths of ReCoRD, which needs nothing but torch and is what
`glm-trainer bench --baseline` runs. Reading and encoding them and copying them to a GPU is not timed, which favours this program.

  padded_baseline.py --data DIR --preset base --checkpoint-activations --questions 3
  padded_baseline.py --synthetic --preset large --device cuda --precision fp16 --questions 32
"""

import argparse
import ctypes
import gc
import json
import resource
import statistics
import sys
import time

import torch

import machine
import padded_model

STEP = 32
# Of bert-base-uncased with GLM's own tokens; ids of words are above those of single characters.
CLS, MASK, SOP, EOP = 101, 103, 30522, 30523
WORDS = (2000, 30000)
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Of the dynamic loss scale of fp16, low enough for the first step.
INIT_SCALE = 65536.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="DIR", help="folder that holds shards/")
    source.add_argument("--synthetic", action="store_true", help="synthetic questions with the lengths of ReCoRD")
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
    parser.add_argument("--sizes", type=sizes, default=None, metavar="L,H,A", help="layers, width and heads instead of those of the preset")
    parser.add_argument("--weights", default=None, metavar="FILE.pt", help="published weights instead of random ones")
    parser.add_argument("--heads", type=int, default=None, help="attention heads of --weights; default: those of the preset")
    parser.add_argument("--checkpoint-activations", action="store_true", help="recompute each layer in the backward pass")
    parser.add_argument("--checkpoint-if-needed", action="store_true", help="recompute if the memory does not suffice otherwise")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", default="fp32", choices=["fp32", *AUTOCAST],
                        help="bf16 and fp16: autocast, master weights in fp32")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda or cuda:N")
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
    if args.synthetic and args.dump_loss:
        parser.error("--dump-loss needs --data")
    if args.sizes:
        args.preset = None
    else:
        args.sizes = padded_model.PRESETS[args.preset]
    return args


def sizes(text):
    layers, hidden, heads = (int(number) for number in text.split(","))
    return layers, hidden, heads


class Synthetic:
    """A question with the lengths of ReCoRD, as of `glm-trainer bench`; only its shape matters for the speed."""

    def __init__(self, number, generator):
        def draw(low, high, count=1):
            return torch.randint(low, high + 1, (count,), generator=generator)
        # Passage and query, with [CLS], the blank and the end of the context.
        passage = 169 + int(150 * torch.rand((), generator=generator).square())
        left, right = int(draw(4, 22)), int(draw(4, 22))
        self.blank = 1 + passage + left
        self.context = torch.cat([torch.tensor([CLS]), draw(*WORDS, passage + left), torch.tensor([MASK]), draw(*WORDS, right), torch.tensor([0])])
        # 9 on average, also for a few questions.
        self.choices = [draw(*WORDS, int(draw(1, 3))) for _ in range((9, 8, 10)[number % 3])]

    def padded(self, choices):
        """All choices in the published form, stacked, as `cloze_data.padded_question` does."""
        rows = self.choices + [self.choices[0]] * (choices - len(self.choices))
        shape = (choices, padded_model.LENGTH)
        batch = {name: torch.zeros(shape, dtype=torch.long) for name in ("ids", "target", "counts")}
        batch["position"] = torch.zeros((choices, 2, padded_model.LENGTH), dtype=torch.long)
        sep = len(self.context)
        for row, choice in enumerate(rows):
            end = sep + 1 + len(choice)
            batch["ids"][row, :end] = torch.cat([self.context, torch.tensor([SOP]), choice])
            batch["target"][row, sep:end] = torch.cat([choice, torch.tensor([EOP])])
            batch["counts"][row, sep:end] = 1
            batch["position"][row, 0, :sep] = torch.arange(sep)
            batch["position"][row, 0, sep:end] = self.blank
            batch["position"][row, 1, sep:end] = torch.arange(1, end - sep + 1)
        real = torch.arange(choices) < len(self.choices)
        return batch | {"sep": torch.full((choices,), sep), "real": real, "label": torch.tensor(0)}


def padded(question, choices):
    if isinstance(question, Synthetic):
        return question.padded(choices)
    # It needs numpy and pyarrow.
    import cloze_data
    return cloze_data.padded_question(question, choices)


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
    layers, hidden, heads = args.sizes
    if args.weights:
        return padded_model.load(args.weights, args.heads or heads, dtype, **options).to(args.device)
    with torch.device(args.device):
        return padded_model.Glm(layers, hidden, heads, **options).initialise().to(dtype)


def micro_batch(questions):
    """A batch of questions in the published form, padded to the largest number of choices."""
    widest = max(len(question.choices) for question in questions)
    inputs = [padded(question, widest) for question in questions]
    return {name: torch.stack([torch.as_tensor(one[name]) for one in inputs]) for name in inputs[0]}


def batches(questions, size, device):
    groups = (micro_batch(questions[i:i + size]) for i in range(0, len(questions), size))
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in groups]


def loss_scale(args):
    return torch.amp.GradScaler(args.device.type, INIT_SCALE, enabled=args.precision == "fp16")


def forward_backward(model, batch, precision, batch_size, scaler=None):
    """Accumulates gradients of a micro-batch for an optimizer step of `batch_size` questions; returns its mean loss, for which a
    GPU must have computed all of it.
    """
    half = precision in AUTOCAST
    with torch.autocast(batch["ids"].device.type, AUTOCAST.get(precision), enabled=half):
        loss = padded_model.loss(model(batch).float() if half else model(batch), batch)
    share = loss * (len(batch["label"]) / batch_size)
    (scaler.scale(share) if scaler else share).backward()
    return loss.item()


def optimizer_step(model, optimizer, scaler=None):
    if scaler:
        scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return norm.item()


def dump(args, questions):
    """Loss and gradient norm of every micro-batch, in fp64 and without dropout."""
    model = make_model(args, torch.float64, 0.0).train()
    rows = []
    for place, batch in enumerate(batches(questions, args.micro_batch, args.device)):
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
    optimizer, scaler = padded_model.optimizer(model, 1e-5), loss_scale(args)
    batch_size = args.batch_size or len(questions)
    for batch in batches(warmup, args.micro_batch, args.device):
        forward_backward(model, batch, args.precision, batch_size, scaler)
    # The first step allocates the optimizer's state, so it is never timed.
    if not warmup:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        scaler.scale(torch.zeros((), device=args.device))
    optimizer_step(model, optimizer, scaler)

    passes, steps, losses = [], [], []
    since_step = 0
    timed = batches(questions, args.micro_batch, args.device)
    for number, batch in enumerate(timed):
        started = time.perf_counter()
        losses.append(forward_backward(model, batch, args.precision, batch_size, scaler))
        passes.append(time.perf_counter() - started)
        since_step += len(batch["label"])
        if since_step >= batch_size or number == len(timed) - 1:
            started = time.perf_counter()
            optimizer_step(model, optimizer, scaler)
            steps.append(time.perf_counter() - started)
            since_step = 0
    return passes, steps, losses, timed


def measure_within_memory(args, warmup, questions):
    """As `measure`, with recomputation if `args` asks for it or if it is needed and allowed."""
    if args.checkpoint_if_needed and not args.checkpoint_activations:
        choices = args.micro_batch * max(len(question.choices) for question in questions)
        if args.device.type == "cpu":
            # An allocation that is too large succeeds there, and the system ends the process later.
            args.checkpoint_activations = padded_model.memory(choices, *args.sizes, recompute=False) > 0.85 * machine.memory_available()
        else:
            try:
                return measure(args, warmup, questions)
            except torch.OutOfMemoryError:
                args.checkpoint_activations = True
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(args.device)
    return measure(args, warmup, questions)


def peak_memory(device):
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
        "positions_computed": sequences * timed[0]["ids"].shape[-1] / questions,
        "positions_that_differ_from_padding": length / questions,
        "mean_scored": scored / questions,
        "peak_memory_bytes": peak_memory(args.device),
        "loss": sum(losses) / len(losses),
        "preset": args.preset,
        "sizes": args.sizes,
        "recomputation": args.checkpoint_activations,
        "dropout": args.dropout,
        "precision": args.precision,
        "micro_batch": args.micro_batch,
        "keeps_freed_memory": args.keeps_freed_memory,
        "device": str(args.device),
        "threads": args.threads,
        "torch": torch.__version__,
    }


def print_report(result):
    how = "with" if result["recomputation"] else "without"
    print(f"GLM-{result['preset'] or result['sizes']} as published, {how} recomputation, {result['precision']}, dropout {result['dropout']}, "
          f"{result['device']}, {result['threads']} threads, torch {result['torch']}")
    print(f"timed: {result['questions']} questions with {result['mean_choices']:.2f} choices, {result['micro_batch']} per forward pass")
    print(f"forward and backward   {result['forward_backward_questions_per_second']:.4f} questions/s, "
          f"{result['choices_per_second']:.3f} choices/s")
    print(f"optimizer step         {statistics.median(result['optimizer_step_seconds']):.3f} s")
    print(f"both, {STEP} per step    {result['questions_per_second']:.4f} questions/s")
    print(f"per question           {result['positions_computed']:,.0f} positions computed, "
          f"{result['positions_that_differ_from_padding']:,.0f} of them not padding, {result['mean_scored']:.1f} scored")
    print(f"peak memory            {result['peak_memory_bytes'] / 1e9:.2f} GB")
    print(f"mean loss              {result['loss']:.4f}")


def read(args):
    if args.synthetic:
        generator = torch.Generator().manual_seed(args.seed)
        return [Synthetic(number, generator) for number in range(args.questions)]
    # It needs numpy and pyarrow.
    import cloze_data
    split = cloze_data.Split(args.data, args.split)
    if args.skip is None:
        rows = split.spread(args.questions)
    else:
        rows = list(range(args.skip, min(args.skip + args.questions, len(split))))
    if not rows:
        raise SystemExit(f"the split has {len(split)} questions")
    return [split[row] for row in rows]


def main():
    args = arguments()
    args.keeps_freed_memory = not args.system_malloc and keep_freed_memory()
    torch.set_num_threads(args.threads)
    questions = read(args)
    if args.dump_loss:
        for row in dump(args, questions):
            print(json.dumps(row))
        return
    # The last questions have the most choices; warming up on them allocates the memory that they need.
    warmup = (questions[::-1] * args.warmup)[:args.warmup]
    result = report(args, *measure_within_memory(args, warmup, questions))
    if args.json:
        print(json.dumps(result))
    else:
        print_report(result)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
