"""
What transformers computes with models/tiny-qwen3, the model that the quickstart trains: tiny-qwen3/tiny-qwen3.json and
.safetensors. See README.md.

    python test/golden/make_tiny_qwen3.py
"""

import json

import torch
from transformers import Qwen3ForCausalLM

from golden import GOLDEN, report, write_json, write_tensors

MODEL = GOLDEN.parent.parent / "models" / "tiny-qwen3"
LINES = 12
MAX_THOUGHT = 16
THINK, END_THINK = 257, 258
DIGITS = list(range(48, 58))  # one token a byte, at its value


def log_probs_after(model, tokens: list[int]) -> torch.Tensor:
    """log p(next token | tokens up to i), [tokens, vocabulary]."""
    return model(torch.tensor([tokens])).logits[0].log_softmax(-1)


@torch.no_grad()
def main() -> None:
    model = Qwen3ForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    thoughts, leads = [], []
    lines = (MODEL / "corpus" / "held-out.jsonl").read_text().splitlines()[:LINES]
    for row in map(json.loads, lines):
        tokens, position = list(row["text"].encode()), row["positions"][0]
        prompt = tokens[:position] + [THINK]
        output = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=MAX_THOUGHT,
            do_sample=False,
            eos_token_id=END_THINK,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        thought = output.sequences[0, len(prompt) :].tolist()
        best = torch.stack(output.logits)[:, 0].topk(2).values
        leads.append((best[:, 0] - best[:, 1]).min().item())
        closed = thought[-1] == END_THINK
        sequence = prompt + thought + ([] if closed else [END_THINK])
        table = log_probs_after(model, sequence)
        written = [table[len(prompt) - 1 + i, token].item() for i, token in enumerate(thought)]
        thoughts.append(
            dict(tokens=tokens, position=position, thought=thought, finish_reason="closed" if closed else "length")
            | dict(log_probs=written, target_log_prob=table[-1, tokens[position]].item())
        )
        print(bytes(tokens[:position]).decode(), thought, f"{thoughts[-1]['target_log_prob']:.3f}")
    assert min(leads) > 1e-3, f"a choice of greedy decoding is too close to call ({min(leads)})"

    # The tree of the first two tokens of a thought: after the delimiter, and after each digit behind it.
    prompt = thoughts[0]["tokens"][: thoughts[0]["position"]] + [THINK]
    rows = [prompt] + [prompt + [digit] for digit in DIGITS]
    logits = torch.stack([model(torch.tensor([row])).logits[0, -1] for row in rows])
    folder = GOLDEN / "tiny-qwen3"
    write_tensors(folder / "tiny-qwen3.safetensors", dict(logits=logits))
    write_json(folder / "tiny-qwen3.json", dict(least_greedy_lead=min(leads), thoughts=thoughts))
    report(folder)


if __name__ == "__main__":
    main()
