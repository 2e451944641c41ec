"""
One GRPO step (arXiv 2402.03300; the loss as TRL's GRPOTrainer computes it with loss_type "grpo", scale_rewards "group")
by PyTorch's autograd, every completion a flat sequence of its own: grpo-step/NAME.json (inputs) and NAME.safetensors
(results of double precision, written as float32). The reference of the KL is rlp-step/NAME.baseline.safetensors.
README.md: grpo-step/.
"""

import torch
from golden import GOLDEN, generator, load_model, parameters, report, write_json, write_tensors
from safetensors.torch import load_file

NAME = "tied-gqa"
THINK, END_THINK = 5, 6
SETTINGS = dict(clip_low=0.2, clip_high=0.28, kl_coefficient=0.04)
# By prompt: length, and by completion the tokens of the thought, whether it closes itself, those of the answer, the reward.
PROMPTS = [
    (7, [(4, True, 3, 1.0), (6, False, 2, 0.0), (1, True, 1, 0.0), (5, True, 4, 1.0)]),
    (4, [(2, True, 2, 0.0), (3, False, 5, 1.0), (6, True, 1, 0.0), (2, False, 0, 0.0)]),
    (5, [(3, True, 1, 0.0), (4, True, 2, 0.0), (2, True, 2, 0.0), (5, False, 1, 0.0)]),  # all equal: no gradient but the KL
]
LOG_RATIOS = [0.05, 0.35, -0.1, -0.35, 0.15]


def make_inputs(vocab_size: int) -> dict:
    random = generator(21)

    def draw(length: int) -> list[int]:
        return torch.randint(10, vocab_size, (length,), generator=random).tolist()

    def draw_completion(thought: int, closes: bool, answer: int, reward: float) -> dict:
        tokens = draw(thought - 1) + [END_THINK] if closes else draw(thought)
        return dict(thought=tokens, forced=[] if closes else [END_THINK], answer=draw(answer), reward=reward)

    prompts = [dict(tokens=draw(n), completions=[draw_completion(*c) for c in cs]) for n, cs in PROMPTS]
    return dict(checkpoint=f"checkpoints/{NAME}", think=THINK, end_think=END_THINK, settings=SETTINGS, prompts=prompts)


def sampled_log_probs(model, prompt: dict, completion: dict) -> torch.Tensor:
    """Of the sampled tokens, thought and answer: the delimiters that were given or forced are no actions."""
    before = prompt["tokens"] + [THINK]
    parts = [completion["thought"], completion["forced"], completion["answer"]]
    sequence = before + sum(parts, [])
    logits = model(input_ids=torch.tensor([sequence])).logits[0].log_softmax(-1)
    thought = range(len(before), len(before) + len(parts[0]))
    answer = range(len(sequence) - len(parts[2]), len(sequence))
    return torch.stack([logits[i - 1, sequence[i]] for i in [*thought, *answer]])


def completions(inputs: dict):
    for prompt in inputs["prompts"]:
        for completion in prompt["completions"]:
            yield prompt, completion


def main() -> None:
    policy, reference = load_model(NAME, torch.float64), load_model(NAME, torch.float64)
    phi = load_file(GOLDEN / "rlp-step" / f"{NAME}.baseline.safetensors")
    with torch.no_grad():
        for name, parameter in parameters(reference).items():
            parameter.copy_(phi[name])
    inputs = make_inputs(policy.config.vocab_size)
    n = 0
    with torch.no_grad():
        for prompt, completion in completions(inputs):
            current = sampled_log_probs(policy, prompt, completion)
            shift = torch.tensor([LOG_RATIOS[(n + u) % len(LOG_RATIOS)] for u in range(len(current))])
            completion["old_log_probs"] = (current - shift).float().tolist()
            n += len(current)

    low, high = 1 - SETTINGS["clip_low"], 1 + SETTINGS["clip_high"]
    losses, advantages, log_probs, kls = [], [], [], []
    for prompt in inputs["prompts"]:
        rewards = torch.tensor([c["reward"] for c in prompt["completions"]], dtype=torch.float64)
        scaled = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        advantages.append(scaled)
        for advantage, completion in zip(scaled, prompt["completions"]):
            current = sampled_log_probs(policy, prompt, completion)
            with torch.no_grad():
                of_reference = sampled_log_probs(reference, prompt, completion)
            old = torch.tensor(completion["old_log_probs"], dtype=torch.float64)
            rho = (current - old).exp()
            surrogate = torch.minimum(rho * advantage, rho.clamp(low, high) * advantage)
            kl = (of_reference - current).exp() - (of_reference - current) - 1
            losses.append((-surrogate + SETTINGS["kl_coefficient"] * kl).mean())
            log_probs.append(current)
            kls.append(kl)
    loss = torch.stack(losses).mean()
    weights = parameters(policy)
    grads = torch.autograd.grad(loss, list(weights.values()))
    tensors = dict(
        loss=loss, advantages=torch.stack(advantages), log_probs=torch.cat(log_probs), kl=torch.cat(kls).mean()
    )
    tensors |= {f"{name}.grad": grad for name, grad in zip(weights, grads)}
    folder = GOLDEN / "grpo-step"
    write_json(folder / f"{NAME}.json", inputs)
    write_tensors(folder / f"{NAME}.safetensors", {name: tensor.float() for name, tensor in tensors.items()})
    print(f"{NAME}: loss {loss:.6f}")
    report(folder)


if __name__ == "__main__":
    main()
