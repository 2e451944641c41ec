"""
LoRA by PEFT: lora/NAME.json (settings, tokens), lora/NAME.safetensors (adapters, as PEFT names them, float32) and
lora/NAME.float64.safetensors (loss, gradients of the adapters, merged weights). See README.md.

    python test/golden/make_lora.py
"""

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from golden import GOLDEN, generator, load_model, report, write_json, write_tensors

CASES = {
    "tied-gqa": dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"]),
    "attention-bias": dict(r=3, lora_alpha=8, target_modules="all-linear"),
}
SEED = 31
DOCUMENT_LENGTHS = [9, 6]


def adapted(name: str, dtype: torch.dtype):
    """PEFT's model with random adapters: B of PEFT's own start is zero, which would leave A without a gradient."""
    model = get_peft_model(load_model(name, dtype), LoraConfig(task_type="CAUSAL_LM", **CASES[name])).eval()
    random = generator(SEED)
    with torch.no_grad():
        for weight, value in sorted(model.named_parameters()):
            if "lora_" in weight:
                value.data = (0.1 * torch.randn(value.shape, generator=random)).to(dtype)
    return model


def nll(model, documents: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of every token behind the first of its document, and minus their mean."""
    log_probs = []
    for tokens in documents:
        logits = model(input_ids=torch.tensor([tokens[:-1]])).logits[0]
        log_probs.append(logits.log_softmax(-1)[range(len(tokens) - 1), tokens[1:]])
    log_probs = torch.cat(log_probs)
    return log_probs, -log_probs.mean()


def compute(name: str, documents: list[list[int]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    model = adapted(name, dtype)
    log_probs, loss = nll(model, documents)
    loss.backward()
    results = dict(log_probs=log_probs, loss=loss)
    results |= {
        f"{weight.replace('.default', '')}.grad": value.grad
        for weight, value in model.named_parameters()
        if value.requires_grad
    }
    assert all("lora_" in weight for weight in results if weight.endswith(".grad"))
    merged = model.merge_and_unload()
    targets = {weight.removesuffix(".lora_A.weight.grad") for weight in results if ".lora_A." in weight}
    for weight, value in merged.named_parameters():
        if f"base_model.model.{weight.removesuffix('.weight')}" in targets:
            results[f"{weight}.merged"] = value
    assert all(value.dtype == dtype for value in results.values())
    return results


if __name__ == "__main__":
    folder = GOLDEN / "lora"
    for name, settings in CASES.items():
        model = adapted(name, torch.float32)
        random = generator(SEED + 1)
        vocab_size = model.config.vocab_size
        documents = [torch.randint(0, vocab_size, (length,), generator=random).tolist() for length in DOCUMENT_LENGTHS]
        single, double = compute(name, documents, torch.float32), compute(name, documents, torch.float64)
        differences = {weight: (value.double() - double[weight]).abs().max().item() for weight, value in single.items()}
        noise = max(differences.values())
        inputs = dict(checkpoint=f"checkpoints/{name}", **settings, documents=documents, max_difference_float64=noise)
        write_json(folder / f"{name}.json", inputs)
        write_tensors(folder / f"{name}.safetensors", get_peft_model_state_dict(model))
        write_tensors(folder / f"{name}.float64.safetensors", double)
        print(f"{name}: loss {double['loss']:.6f}, float32 - float64 at most {noise:.1e}")
    report(folder)
