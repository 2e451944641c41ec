"""
Opens a checkpoint of a LoRA run with PEFT, as a user of the adapters would: the adapters load onto the model they were
trained on with no weight missing or left over, and give the logits of the merged checkpoint that they stand in.

    python test/golden/check_peft.py MODEL RUN/checkpoints/step-000020
"""

import argparse

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-4  # of logits


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares adapters loaded by PEFT with the merged checkpoint.")
    parser.add_argument("model", help="that the run started from, in float32")
    parser.add_argument("checkpoint", help="with adapter/ in it")
    arguments = parser.parse_args()

    def load(folder: str):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    adapter = f"{arguments.checkpoint}/adapter"
    adapted = PeftModel.from_pretrained(load(arguments.model), adapter).eval()
    stored = load_file(f"{adapter}/adapter_model.safetensors")
    loaded = {name.replace(".default", ""): value for name, value in adapted.named_parameters() if "lora_" in name}
    problems = [f"{name} is not in the model" for name in stored.keys() - loaded.keys()]
    problems += [f"{name} is not in the file" for name in loaded.keys() - stored.keys()]
    problems += [f"{name} differs" for name in stored if name in loaded and not torch.equal(stored[name], loaded[name])]

    merged, base = load(arguments.checkpoint), load(arguments.model)
    ids = torch.arange(16)[None] % merged.config.vocab_size
    with torch.no_grad():
        logits = adapted(input_ids=ids).logits
        difference = (logits - merged(input_ids=ids).logits).abs().max().item()
        moved = (logits - base(input_ids=ids).logits).abs().max().item()
    if not difference < TOLERANCE:
        problems.append(f"logits differ by {difference}")
    if moved == 0:
        problems.append("the adapters change nothing")
    print(f"{adapter}: {len(stored)} adapter weights, {sum(value.numel() for value in stored.values())} parameters")
    print(f"logits: {difference:.1e} from the merged checkpoint, {moved:.3f} from the model")
    for problem in problems:
        print(f"FAILED: {problem}")
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
