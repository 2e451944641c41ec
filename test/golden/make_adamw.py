"""
100 steps of torch.optim.AdamW with clipping by the global norm and an EMA of the weights, gradients given:
adamw/adamw.json (settings), adamw.safetensors (float32) and adamw.float64.safetensors. See README.md.

    python test/golden/make_adamw.py
"""

import torch

from golden import GOLDEN, generator, report, write_json, write_tensors

STEPS = 100
RECORDED = [1, 2, 10, 100]
SHAPES = {
    "model.embed_tokens.weight": [3, 7],
    "model.layers.0.mlp.up_proj.weight": [5, 7],
    "model.norm.weight": [7],
}
DECAYED = ["model.layers.0.mlp.up_proj.weight"]  # neither embeddings nor norms
SETTINGS = dict(
    learning_rate=1e-2,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    max_grad_norm=1.0,
    ema_decay=0.99,
)


Tensors = dict[str, torch.Tensor]


def make_gradients() -> Tensors:
    """[STEPS, *shape], float32. Their scale goes from 0.01 to 1: the early ones are not clipped, the late ones are."""
    random = generator(3)
    scales = torch.logspace(-2, 0, STEPS)
    return {
        name: torch.randn([STEPS, *shape], generator=random) * scales.reshape(-1, *[1 for _ in shape])
        for name, shape in SHAPES.items()
    }


def run(initial: Tensors, gradients: Tensors, dtype: torch.dtype) -> Tensors:
    # Copies, for both the optimizer and the clipping work in place.
    weights = {name: torch.nn.Parameter(value.to(dtype, copy=True)) for name, value in initial.items()}
    ema = {name: value.to(dtype) for name, value in initial.items()}
    groups = [
        dict(params=[weight], weight_decay=SETTINGS["weight_decay"] if name in DECAYED else 0.0)
        for name, weight in weights.items()
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=SETTINGS["learning_rate"],
        betas=(SETTINGS["beta1"], SETTINGS["beta2"]),
        eps=SETTINGS["epsilon"],
    )
    results, grad_norms = {}, []
    tau = SETTINGS["ema_decay"]
    for step in range(1, STEPS + 1):
        for name, weight in weights.items():
            weight.grad = gradients[name][step - 1].to(dtype, copy=True)
        grad_norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), SETTINGS["max_grad_norm"]))
        optimizer.step()
        for name, weight in weights.items():
            ema[name] = tau * ema[name] + (1 - tau) * weight.detach()
        if step not in RECORDED:
            continue
        for name, weight in weights.items():
            state = optimizer.state[weight]
            results[f"step-{step}.{name}"] = weight.detach().clone()
            results[f"step-{step}.{name}.exp_avg"] = state["exp_avg"].clone()
            results[f"step-{step}.{name}.exp_avg_sq"] = state["exp_avg_sq"].clone()
            results[f"step-{step}.{name}.ema"] = ema[name]
    norms = torch.stack(grad_norms)
    assert (norms < 0.5).any() and (norms > 2).any()
    return results | dict(grad_norms=norms)


if __name__ == "__main__":
    random = generator(4)
    initial = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
    gradients = make_gradients()
    single = run(initial, gradients, torch.float32)
    double = run(initial, gradients, torch.float64)
    difference = max((single[name] - double[name]).abs().max().item() for name in single)
    inputs = {f"initial.{name}": value for name, value in initial.items()}
    inputs |= {f"gradients.{name}": value for name, value in gradients.items()}
    content = dict(settings=SETTINGS, steps=STEPS, recorded=RECORDED, decayed=DECAYED)
    write_json(GOLDEN / "adamw" / "adamw.json", content | dict(max_difference_float64=difference))
    write_tensors(GOLDEN / "adamw" / "adamw.safetensors", inputs | single)
    write_tensors(GOLDEN / "adamw" / "adamw.float64.safetensors", double)
    print(f"float32 - float64: {difference:.1e}")
    report(GOLDEN / "adamw")
