"""One SFT step in PyTorch: next-token loss on the responses of flat sequences. README.md: sft-step/."""

import torch
from golden import GOLDEN, load_model, parameters, report, write_json, write_tensors

NAME = "tied-gqa"
# Contexts that are shared, that begin each other, and that are alone; a response in two parts.
CONTEXT = [5, 17, 33, 8, 90, 2]
SEQUENCES = [
    {"tokens": [*CONTEXT, 7, 41, 12, 60], "targets": [6, 7, 8, 9]},
    {"tokens": [*CONTEXT, 7, 3], "targets": [7]},
    {"tokens": [*CONTEXT, 55, 55, 1, 9, 77], "targets": [6, 7, 8]},
    {"tokens": [*CONTEXT[:4], 66, 4], "targets": [4, 5]},
    {"tokens": [70, 71, 72, 73, 74, 75, 76], "targets": [2, 3, 6]},
    {"tokens": [9, 100], "targets": [1]},
]


def main() -> None:
    model = load_model(NAME, torch.float64)
    log_probs = []
    for sequence in SEQUENCES:
        tokens, targets = sequence["tokens"], sequence["targets"]
        logits = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        log_probs.append(torch.stack([logits[i - 1, tokens[i]] for i in targets]))
    log_probs = torch.cat(log_probs)
    loss = -log_probs.mean()  # over the response tokens of the step, as TRL has it
    weights = parameters(model)
    grads = torch.autograd.grad(loss, list(weights.values()))
    folder = GOLDEN / "sft-step"
    write_json(folder / f"{NAME}.json", {"checkpoint": f"checkpoints/{NAME}", "sequences": SEQUENCES})
    tensors = {"loss": loss, "log_probs": log_probs} | {f"{n}.grad": g for n, g in zip(weights, grads)}
    write_tensors(folder / f"{NAME}.safetensors", {n: t.float() for n, t in tensors.items()})
    print(f"{NAME}: loss {loss:.6f}")
    report(folder)


if __name__ == "__main__":
    main()
