"""A training step in PyTorch and transformers, one for each line on standard input: scripts/bench/train-pytorch.ts asks.

    python train-pytorch.py CHECKPOINT THREADS DOCUMENTS LENGTH [compile] [ema]

Float32, scaled_dot_product_attention, next-token cross-entropy over all tokens, gradients clipped to norm 1, AdamW (foreach); with
"ema" a moving average of the weights and its distance from them. Answers each line with one of JSON: the loss, and the
milliseconds of zero_grad, forward and backward and of clipping and optimizer.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

path, threads, documents, length = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.1)
vocabulary = model.config.vocab_size
ema = [weight.detach().clone() for weight in model.parameters()] if "ema" in sys.argv[5:] else []
tokens = torch.tensor([[(t * 131 + d * 17) % vocabulary for t in range(length)] for d in range(documents)])


def loss_of(tokens):
    logits = model(input_ids=tokens, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


if "compile" in sys.argv[5:]:
    loss_of = torch.compile(loss_of)

for _ in sys.stdin:
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = loss_of(tokens)
    loss.backward()
    middle = time.perf_counter()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if ema:
        with torch.no_grad():
            weights = list(model.parameters())
            torch._foreach_lerp_(ema, weights, 0.001)
            distance = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(torch._foreach_sub(ema, weights))))
    end = time.perf_counter()
    answer = {"loss": loss.item(), "step": 1000 * (middle - start), "optimizer": 1000 * (end - middle)}
    print(json.dumps(answer), flush=True)
