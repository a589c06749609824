"""GLM as in the published benchmark, in plain PyTorch: every choice of a question padded to 512 positions, with logits over the
whole vocabulary at each of them. Written from the description of the model; parameters have their published names.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

VOCABULARY, POSITIONS = 30592, 513
# Positions that a sequence is padded to.
LENGTH = 512
# Layers, width, heads.
PRESETS = {"large": (24, 1024, 16), "base": (12, 768, 12), "tiny": (3, 128, 4)}
EPS, INIT_STD = 1e-5, 0.02
MISSING = -10000.0


class Attention(nn.Module):
    def __init__(self, hidden, heads, dropout):
        super().__init__()
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.dense = nn.Linear(hidden, hidden)
        self.heads, self.dropout = heads, dropout

    def forward(self, x, bias):
        rows, length, hidden = x.shape
        split = self.query_key_value(x).view(rows, length, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        scores = torch.matmul(query / math.sqrt(hidden // self.heads), key.transpose(-1, -2))
        # In place: the backward pass does not need the product.
        probabilities = F.softmax(scores.add_(bias), dim=-1)
        probabilities = F.dropout(probabilities, self.dropout, self.training)
        mixed = torch.matmul(probabilities, value).transpose(1, 2).reshape(rows, length, hidden)
        return F.dropout(self.dense(mixed), self.dropout, self.training)


class FeedForward(nn.Module):
    def __init__(self, hidden, dropout):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(hidden, 4 * hidden)
        self.dense_4h_to_h = nn.Linear(4 * hidden, hidden)
        self.dropout = dropout

    def forward(self, x):
        inner = F.gelu(self.dense_h_to_4h(x), approximate="tanh")
        return F.dropout(self.dense_4h_to_h(inner), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, hidden, heads, dropout):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(hidden, EPS)
        self.attention = Attention(hidden, heads, dropout)
        self.post_attention_layernorm = nn.LayerNorm(hidden, EPS)
        self.mlp = FeedForward(hidden, dropout)

    def forward(self, x, bias):
        x = x + self.attention(self.input_layernorm(x), bias)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    def __init__(self, layers, hidden, heads, dropout, recompute):
        super().__init__()
        self.position_embeddings = nn.Embedding(POSITIONS, hidden)
        self.block_position_embeddings = nn.Embedding(POSITIONS, hidden)
        self.layers = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.final_layernorm = nn.LayerNorm(hidden, EPS)
        self.dropout, self.recompute = dropout, recompute

    def forward(self, words, position, bias):
        x = words + self.position_embeddings(position[:, 0]) + self.block_position_embeddings(position[:, 1])
        x = F.dropout(x, self.dropout, self.training)
        for layer in self.layers:
            if self.recompute and self.training:
                # Keeps only the layer's input; the backward pass recomputes the layer with the same dropout.
                x = checkpoint(layer, x, bias, use_reentrant=False)
            else:
                x = layer(x, bias)
        return self.final_layernorm(x)


class Glm(nn.Module):
    def __init__(self, layers, hidden, heads, vocabulary=VOCABULARY, dropout=0.1, recompute=False):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, hidden)
        self.transformer = Transformer(layers, hidden, heads, dropout, recompute)

    def initialise(self):
        """Initializes the weights; the two projections of a layer into the residual stream get smaller ones."""
        small = INIT_STD / math.sqrt(2 * len(self.transformer.layers))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                output = name.endswith(("attention.dense.weight", "dense_4h_to_h.weight"))
                nn.init.normal_(parameter, 0.0, small if output else INIT_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        return self

    def forward(self, batch):
        """Scores `[questions, choices]` of a batch whose tensors are `[questions, choices, …]`."""
        questions, choices, length = batch["ids"].shape
        sequences = {name: batch[name].flatten(0, 1) for name in ("ids", "position", "target", "counts", "sep")}
        words = self.word_embeddings(sequences["ids"])
        bias = visibility(sequences["sep"], length, words.dtype)
        x = self.transformer(words, sequences["position"], bias)
        log_probabilities = F.log_softmax(F.linear(x, self.word_embeddings.weight), dim=-1)
        of_targets = log_probabilities.gather(-1, sequences["target"].unsqueeze(-1)).squeeze(-1)
        return (of_targets * sequences["counts"]).sum(-1).view(questions, choices)


def visibility(sep, length, dtype):
    """Attention mask as an additive bias, `[sequences, 1, length, length]`: 0 for keys of the context and for earlier keys,
    -10000 for all others.
    """
    index = torch.arange(length, device=sep.device)
    hidden = (index[None, :] > index[:, None]) & (index >= sep[:, None, None])
    return torch.zeros(hidden.shape, dtype=dtype, device=sep.device).masked_fill_(hidden, MISSING).unsqueeze(1)


def loss(scores, batch):
    """Cross entropy over each question's choices, averaged over the questions."""
    return F.cross_entropy(scores.masked_fill(~batch["real"], MISSING), batch["label"])


def memory(choices, layers, hidden, heads, recompute):
    """Approximate memory for one question in fp32, in bytes.

    A layer keeps 21.5 h numbers per token and, for each head, the probabilities before and after dropout and the dropout mask
    with 32 bits per number. Four tensors of the size of the logits exist at once. Measured: 3 % less for base with 10 choices.
    """
    tokens = choices * LENGTH
    per_layer = 4 * tokens * (21.5 * hidden + 3 * heads * LENGTH)
    kept = layers * 4 * tokens * hidden + per_layer if recompute else layers * per_layer
    logits = 4 * 4 * tokens * VOCABULARY
    parameters = (VOCABULARY + 2 * POSITIONS) * hidden + layers * (12 * hidden * hidden + 13 * hidden) + 2 * hidden
    # Weights, gradients and two moments; the libraries; 15 % fragmentation.
    return 1.15 * (kept + logits + 16 * parameters + 0.5e9)


def load(path, heads, dtype=torch.float32, **options):
    """A model with published weights. Sizes follow from the weights, except for the number of heads."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    weights = {name: value.to(dtype) for name, value in weights.get("module", weights).items()}
    vocabulary, hidden = weights["word_embeddings.weight"].shape
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("transformer.layers."))
    model = Glm(layers, hidden, heads, vocabulary, **options).to(dtype)
    model.load_state_dict(weights)
    return model


def optimizer(model, lr, fused=True):
    """AdamW with weight decay for matrices, but not for biases and LayerNorm."""
    decay = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    rest = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8, fused=fused)


def learning_rate(step, lr, steps):
    """Learning rate of optimizer step `step`, from 0: warm-up over 10 % of the steps, then linear decay to 10 %."""
    warmup = 0.1 * steps
    if step <= warmup:
        return lr * step / warmup
    return max(lr - 0.9 * lr * (step - warmup) / (steps - warmup), 0.1 * lr)
