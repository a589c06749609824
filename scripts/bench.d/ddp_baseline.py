"""Trains GLM with PyTorch's DistributedDataParallel in two CPU processes that share each step's questions, for comparison with
`glm-trainer run --nproc 2`: the published form, no dropout, fp32, gloo. tests/tests/ddp.rs runs it.

  ddp_baseline.py --data DIR --weights MODEL.safetensors --heads 2 --steps STEPS.json --lr 1e-3 --out RESULT.npz

STEPS.json has a list of rows of the split `train` for every step. RESULT.npz receives `loss` and `gradient_norm` of every
step, and the final weights under their names.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing

import cloze_data
import padded_baseline
import padded_model

RANKS = 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder that holds shards/")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint's model.safetensors")
    parser.add_argument("--heads", type=int, required=True)
    parser.add_argument("--steps", required=True, metavar="FILE", help="rows of every step, an even number each")
    parser.add_argument("--sequence", type=int, default=cloze_data.SEQUENCE, metavar="N", help="length that choices are padded to")
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--decay-steps", type=int, required=True, metavar="N")
    parser.add_argument("--out", required=True, metavar="FILE")
    return parser.parse_args()


def read_safetensors(path):
    """Tensors of a safetensors file in fp32: the length of the header, the header as JSON, the numbers."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            numbers = np.frombuffer(content[start + first:start + last], dtype="<f4")
            tensors[name] = torch.tensor(numbers.reshape(entry["shape"]))
    return tensors


def make_model(args):
    weights = read_safetensors(args.weights)
    vocabulary, hidden = weights["word_embeddings.weight"].shape
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("transformer.layers."))
    model = padded_model.Glm(layers, hidden, args.heads, vocabulary, dropout=0.0)
    model.load_state_dict(weights)
    return model.train()


def train(rank, args, rendezvous):
    torch.set_num_threads(1)
    cloze_data.SEQUENCE = args.sequence
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=RANKS)
    split = cloze_data.Split(args.data, "train")
    model = make_model(args)
    together = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = padded_model.optimizer(model, args.lr)
    losses, norms = [], []
    for step, rows in enumerate(json.loads(Path(args.steps).read_text())):
        for group in optimizer.param_groups:
            group["lr"] = padded_model.learning_rate(step, args.lr, args.decay_steps)
        # With equal numbers of questions, the mean over ranks that DDP computes is the mean over questions.
        own = [split[row] for row in rows[rank::RANKS]]
        batch = padded_baseline.micro_batch(own)
        loss = torch.tensor(padded_baseline.forward_backward(together, batch, "fp32", len(own)))
        torch.distributed.all_reduce(loss)
        losses.append(loss.item() / RANKS)
        norms.append(padded_baseline.optimizer_step(model, optimizer))
    if rank == 0:
        weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
        np.savez(args.out, loss=np.array(losses), gradient_norm=np.array(norms), **weights)
    torch.distributed.destroy_process_group()


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="glm-ddp-") as folder:
        # fork avoids importing torch again. It is safe because torch has not started any threads yet.
        rendezvous = f"file://{folder}/rendezvous"
        torch.multiprocessing.start_processes(train, (args, rendezvous), nprocs=RANKS, start_method="fork")


if __name__ == "__main__":
    main()
