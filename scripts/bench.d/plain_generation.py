"""Generates with GLM as a plain loop in PyTorch: one text at a time, keys and values of each layer appended to those before, the most
probable token at each place. `glm-trainer bench --generate --baseline` runs it on the weights that it generates with itself.

The file of requests is JSON: {"contexts": [{"ids": [...], "blank": 3}], "tokens": 64, "start": 30522}. The last line of the output is the
result.
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
EPS = 1e-5


def read_weights(path, kind, device):
    """Tensors of a safetensors file by name."""
    data = bytearray(open(path, "rb").read())
    end = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, info in json.loads(data[8:end]).items():
        if name != "__metadata__":
            count = math.prod(info["shape"])
            tensor = torch.frombuffer(data, dtype=STORED[info["dtype"]], count=count, offset=end + info["data_offsets"][0])
            tensors[name] = tensor.view(info["shape"]).to(device, kind)
    return tensors


class Model:
    def __init__(self, weights, heads):
        self.weights, self.heads = weights, heads
        self.layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("transformer.layers."))

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"], EPS)

    def logits(self, ids, position, block_position, cache):
        """Logits after the last token, which sees all others; new tokens see those in the cache and each other."""
        x = F.embedding(ids, self.weights["word_embeddings.weight"])
        x = x + F.embedding(position, self.weights["transformer.position_embeddings.weight"])
        x = x + F.embedding(block_position, self.weights["transformer.block_position_embeddings.weight"])
        for layer in range(self.layers):
            name = f"transformer.layers.{layer}"
            split = self.linear(self.norm(x, f"{name}.input_layernorm"), f"{name}.attention.query_key_value")
            # [1, tokens, 3 hidden] -> 3 x [1, heads, tokens, head size]
            query, key, value = split.view(1, ids.shape[1], 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            if cache[layer] is not None:
                key, value = torch.cat([cache[layer][0], key], 2), torch.cat([cache[layer][1], value], 2)
            cache[layer] = (key, value)
            mixed = F.scaled_dot_product_attention(query, key, value)
            x = x + self.linear(mixed.transpose(1, 2).reshape(x.shape), f"{name}.attention.dense")
            inner = self.linear(self.norm(x, f"{name}.post_attention_layernorm"), f"{name}.mlp.dense_h_to_4h")
            x = x + self.linear(F.gelu(inner, approximate="tanh"), f"{name}.mlp.dense_4h_to_h")
        return F.linear(self.norm(x[:, -1], "transformer.final_layernorm"), self.weights["word_embeddings.weight"])


def generate(model, context, start, count, device):
    def row(numbers):
        return torch.tensor([numbers], device=device)
    ids, blank = context["ids"], context["blank"]
    cache = [None] * model.layers
    model.logits(row(ids), row(list(range(len(ids)))), row([0] * len(ids)), cache)
    token, tokens = start, []
    for block_position in range(1, count + 1):
        token = int(model.logits(row([token]), row([blank]), row([block_position]), cache).argmax())
        tokens.append(token)
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, metavar="FILE.safetensors")
    parser.add_argument("--heads", required=True, type=int)
    parser.add_argument("--requests", required=True, metavar="FILE.json")
    parser.add_argument("--precision", default="fp32", choices=list(KINDS))
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    requests = json.load(open(args.requests))
    model = Model(read_weights(args.weights, KINDS[args.precision], args.device), args.heads)
    with torch.inference_mode():
        generate(model, requests["contexts"][0], requests["start"], 4, args.device)
        begin = time.perf_counter()
        tokens = [generate(model, context, requests["start"], requests["tokens"], args.device) for context in requests["contexts"]]
        seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "tokens": tokens, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
