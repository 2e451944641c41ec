"""
One RLP step (arXiv 2510.01265) and one next-token loss by PyTorch's autograd, each thought computed as a flat sequence
of its own: rlp-step/NAME.json (inputs), NAME.baseline.safetensors (the weights phi), NAME.safetensors (results in
float32) and NAME.float64.safetensors (the same names from double precision). See README.md for names and shapes.

    python test/golden/make_rlp_step.py
"""

import torch

from golden import CHECKPOINTS, GOLDEN, generator, load_model, parameters, report, write_json, write_tensors

NAMES = {"tied-gqa": 11, "untied-mha": 12}  # checkpoint and seed
DOCUMENT_LENGTHS = [9, 7]
POSITIONS = [[1, 6], [3, 6]]  # the shortest prefix there is, and the last token of a document
MAX_THOUGHT_TOKENS = 6
# By document, position and rollout. 'closed': the last sampled token is the closing delimiter, and it is trained on.
# 'length' and 'eos': it was not sampled, but forced before the target, and is not trained on.
FINISHES = [
    [[("closed", 3), ("length", 6), ("closed", 5)], [("eos", 4), ("closed", 2), ("closed", 6)]],
    [[("closed", 1), ("closed", 4), ("length", 6)], [("eos", 1), ("length", 6), ("closed", 5)]],
]
SETTINGS = dict(
    clip_low=0.2,
    clip_high=0.28,
    learning_rate=1e-3,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    max_grad_norm=1.0,
    ema_decay=0.999,
)
# log pi - log pi_old by turns: inside the clip range, above it (rho 1.42) and below it (rho 0.70).
LOG_RATIOS = [0.05, 0.35, -0.1, -0.35, 0.15]


def make_inputs(name: str, seed: int, vocab_size: int) -> dict:
    """Random documents and thoughts; the three highest token ids are the special ones."""
    random = generator(seed)
    end_of_text, think, end_think = vocab_size - 3, vocab_size - 2, vocab_size - 1
    last = {"closed": [end_think], "eos": [end_of_text], "length": []}

    def draw(length: int) -> list[int]:
        return torch.randint(0, end_of_text, (length,), generator=random).tolist()

    def draw_thought(finish: str, length: int) -> dict:
        return dict(tokens=draw(length - len(last[finish])) + last[finish], finish_reason=finish)

    documents = []
    for length, positions, finishes in zip(DOCUMENT_LENGTHS, POSITIONS, FINISHES):
        tokens = draw(length)
        thoughts = [[draw_thought(*finish) for finish in group] for group in finishes]
        groups = [dict(position=t, thoughts=group) for t, group in zip(positions, thoughts)]
        documents.append(dict(tokens=tokens, positions=groups))
    return dict(
        checkpoint=f"checkpoints/{name}",
        think=think,
        end_think=end_think,
        end_of_text=end_of_text,
        max_thought_tokens=MAX_THOUGHT_TOKENS,
        settings=SETTINGS,
        documents=documents,
    )


def log_probs(model, tokens: list[int]) -> torch.Tensor:
    """log p(. | x_<=i) for every token i: [sequence, vocab]."""
    return model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)


def thought_log_probs(model, inputs: dict, document: dict, position: int, thought: dict):
    """log p(c_u | ...) of the thought's tokens [|c|], and log p(x_t | x_<t, thought)."""
    c, t = thought["tokens"], position
    forced = [] if thought["finish_reason"] == "closed" else [inputs["end_think"]]
    scores = log_probs(model, document["tokens"][:t] + [inputs["think"]] + c + forced)
    return scores[range(t, t + len(c)), c], scores[-1, document["tokens"][t]]


def groups(inputs: dict):
    for document in inputs["documents"]:
        for group in document["positions"]:
            yield document, group["position"], group["thoughts"]


@torch.no_grad()
def add_old_log_probs(inputs: dict, model) -> None:
    """What the thoughts were sampled with, float32: the policy's log-probs, moved so that ratios differ from 1."""
    n = 0
    for document, position, thoughts in groups(inputs):
        for thought in thoughts:
            current, _ = thought_log_probs(model, inputs, document, position, thought)
            shift = torch.tensor([LOG_RATIOS[(n + u) % len(LOG_RATIOS)] for u in range(len(current))])
            thought["old_log_probs"] = (current - shift).tolist()
            n += len(current)


def rlp_loss(policy, baseline, inputs: dict) -> dict[str, torch.Tensor]:
    low, high = 1 - SETTINGS["clip_low"], 1 + SETTINGS["clip_high"]
    names = ("reasoned_log_probs", "baseline_log_probs", "rewards", "advantages")
    per_group: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    token_log_probs, ratios, clipped_by_side, losses = [], [], set(), []
    for document, t, thoughts in groups(inputs):
        scored = [thought_log_probs(policy, inputs, document, t, thought) for thought in thoughts]
        reasoned = torch.stack([score for _, score in scored]).detach()
        with torch.no_grad():
            no_think = log_probs(baseline, document["tokens"][:t])[-1, document["tokens"][t]]
        rewards = reasoned - no_think
        G = len(thoughts)
        advantages = G / (G - 1) * (rewards - rewards.mean())
        for advantage, thought, (current, _) in zip(advantages, thoughts, scored):
            old = torch.tensor(thought["old_log_probs"], dtype=current.dtype)
            rho = (current - old).exp()
            surrogate = torch.minimum(rho * advantage, rho.clamp(low, high) * advantage)
            losses.append(-surrogate.mean())  # over |c|
            token_log_probs.append(current)
            ratios.append(rho)
            clipped_by_side |= {((r > high) - (r < low), advantage.item() > 0) for r in rho.tolist()}
        for name, value in zip(per_group, (reasoned, no_think, rewards, advantages)):
            per_group[name].append(value)
    # Above, below and inside the clip range, each with both signs of the advantage; no ratio close to a bound.
    assert len(clipped_by_side) == 6, clipped_by_side
    ratios = torch.cat(ratios)
    assert min((ratios - low).abs().min(), (ratios - high).abs().min()) > 0.01

    D, K = len(DOCUMENT_LENGTHS), len(POSITIONS[0])
    results = {name: torch.stack(values).unflatten(0, (D, K)) for name, values in per_group.items()}
    return results | dict(token_log_probs=torch.cat(token_log_probs), ratios=ratios, loss=torch.stack(losses).mean())


def nll_loss(policy, inputs: dict) -> dict[str, torch.Tensor]:
    """Next-token loss over all documents, the mean over their target tokens."""
    token_log_probs = []
    for document in inputs["documents"]:
        tokens = document["tokens"]
        token_log_probs.append(log_probs(policy, tokens[:-1])[range(len(tokens) - 1), tokens[1:]])
    token_log_probs = torch.cat(token_log_probs)
    return dict(nll_log_probs=token_log_probs, nll_loss=-token_log_probs.mean())


def gradients(model, loss: torch.Tensor, suffix: str) -> dict[str, torch.Tensor]:
    weights = parameters(model)
    grads = torch.autograd.grad(loss, list(weights.values()))
    return {f"{name}.{suffix}": grad for name, grad in zip(weights, grads)}


def is_decayed(name: str, weight: torch.Tensor) -> bool:
    return weight.dim() > 1 and name != "model.embed_tokens.weight"


def optimizer_step(model, phi: dict[str, torch.Tensor], grads: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """AdamW's first step after clipping, then phi <- tau phi + (1 - tau) theta."""
    weights = parameters(model)
    for name, weight in weights.items():
        weight.grad = grads[f"{name}.grad"].clone()
    decayed = [weight for name, weight in weights.items() if is_decayed(name, weight)]
    others = [weight for name, weight in weights.items() if not is_decayed(name, weight)]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=SETTINGS["weight_decay"]), dict(params=others, weight_decay=0.0)],
        lr=SETTINGS["learning_rate"],
        betas=(SETTINGS["beta1"], SETTINGS["beta2"]),
        eps=SETTINGS["epsilon"],
    )
    grad_norm = torch.nn.utils.clip_grad_norm_(weights.values(), SETTINGS["max_grad_norm"])
    optimizer.step()
    tau = SETTINGS["ema_decay"]
    results = dict(grad_norm=grad_norm)
    for name, weight in weights.items():
        results[f"{name}.after"] = weight.detach()
        results[f"{name}.ema_after"] = tau * phi[name] + (1 - tau) * weight.detach()
    return results


def compute(name: str, inputs: dict, phi: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    policy, baseline = load_model(name, dtype), load_model(name, dtype)
    phi = {weight: value.to(dtype) for weight, value in phi.items()}
    with torch.no_grad():
        for weight, parameter in parameters(baseline).items():
            parameter.copy_(phi[weight])
    results = rlp_loss(policy, baseline, inputs)
    results |= gradients(policy, results["loss"], "grad")
    results |= nll_loss(policy, inputs)
    results |= gradients(policy, results["nll_loss"], "nll_grad")
    results |= optimizer_step(policy, phi, results)
    assert all(value.dtype == dtype for value in results.values())
    return results


def make_baseline(model, seed: int) -> dict[str, torch.Tensor]:
    random = generator(seed)
    return {
        name: weight.detach() + 0.01 * torch.randn(weight.shape, generator=random)
        for name, weight in parameters(model).items()
    }


def largest_differences(single: dict[str, torch.Tensor], double: dict[str, torch.Tensor]) -> dict[str, float]:
    """Of float32 from float64 by kind of result (the last part of its name): the noise that a test has to allow."""
    differences: dict[str, float] = {}
    for name, value in single.items():
        kind = name.rsplit(".", 1)[-1]
        difference = (value.double() - double[name]).abs().max().item()
        differences[kind] = max(differences.get(kind, 0.0), difference)
    return differences


if __name__ == "__main__":
    folder = GOLDEN / "rlp-step"
    for name, seed in NAMES.items():
        model = load_model(name)
        inputs = make_inputs(name, seed, model.config.vocab_size)
        add_old_log_probs(inputs, model)
        phi = make_baseline(model, seed + 100)
        single = compute(name, inputs, phi, torch.float32)
        double = compute(name, inputs, phi, torch.float64)
        inputs["max_difference_float64"] = largest_differences(single, double)
        write_json(folder / f"{name}.json", inputs)
        write_tensors(folder / f"{name}.baseline.safetensors", phi)
        write_tensors(folder / f"{name}.safetensors", single)
        write_tensors(folder / f"{name}.float64.safetensors", double)
        print(f"{name}: loss {double['loss']:.6f}, grad norm {double['grad_norm']:.4f}, nll {double['nll_loss']:.6f}")
        differences = ", ".join(f"{kind} {value:.1e}" for kind, value in inputs["max_difference_float64"].items())
        print(f"  float32 - float64: {differences}")
    report(folder)
