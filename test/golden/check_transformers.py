"""
Opens a checkpoint folder with transformers, as a user of a trained model would: no weight may be missing or left over,
the loss of a text is finite, and its log-probs are those of our evaluation graph. By hand, after a change of what is written:

    python test/golden/check_transformers.py models/tiny-qwen3 --text "1 2 3 = 6"
    python test/golden/check_transformers.py test/golden/checkpoints/tied-gqa --ids 5 17 3 40
    npx tsx scripts/log-probs.ts RUN/checkpoints/step-000050 --text "1 2 3 = 6" > ours.json
    python test/golden/check_transformers.py RUN/checkpoints/step-000050 --ours ours.json
"""

import argparse
import json
import math

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# Both compute in float32; log-probs of deep models differ by 1e-5 and more.
TOLERANCE = 1e-4
PROBLEMS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def main() -> None:
    parser = argparse.ArgumentParser(description="Loss of a text under a checkpoint, by transformers in float32.")
    parser.add_argument("folder")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", help="needs a tokenizer in the folder")
    given.add_argument("--ids", type=int, nargs="+", metavar="ID", help="at least two token ids")
    given.add_argument("--ours", metavar="FILE", help="ids and log-probs of scripts/log-probs.ts, to compare with")
    parser.add_argument("--generate", type=int, default=8, metavar="N", help="greedy tokens to add (default 8)")
    arguments = parser.parse_args()

    model, info = AutoModelForCausalLM.from_pretrained(
        arguments.folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = [f"{kind}: {sorted(info[kind])}" for kind in PROBLEMS if info.get(kind)]
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder) if arguments.text is not None else None
    ours = None
    if arguments.ours is not None:
        with open(arguments.ours, encoding="utf-8") as file:
            ours = json.load(file)
    ids = ours["ids"] if ours else arguments.ids if tokenizer is None else tokenizer(arguments.text)["input_ids"]
    if len(ids) < 2 or max(ids) >= model.config.vocab_size:
        raise SystemExit(f"expected at least two tokens below {model.config.vocab_size}, found {ids}")
    if tokenizer is not None and tokenizer.decode(ids) != arguments.text:
        problems.append(f"the tokenizer gives back {tokenizer.decode(ids)!r}")

    input_ids = torch.tensor([ids])
    with torch.no_grad():
        logits = model(input_ids=input_ids).logits[0, :-1]
        output = model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=arguments.generate,
            do_sample=False,
        )
    log_probs = logits.log_softmax(-1).gather(-1, input_ids[0, 1:, None])[:, 0]
    loss = -log_probs.mean().item()
    if not math.isfinite(loss):
        problems.append(f"the loss is {loss}")
    if ours:
        difference = (log_probs - torch.tensor(ours["log_probs"])).abs().max().item()
        print(f"log_probs differ from ours by {difference:.2e} at most")
        if not difference <= TOLERANCE:
            problems.append(f"log-probs differ from ours by {difference}, more than {TOLERANCE}")
    added = output[0, len(ids) :].tolist()

    print(f"{arguments.folder}: {type(model).__name__}, {model.num_parameters()} parameters")
    print(f"tokens {ids}")
    print(f"log_probs {[round(value, 6) for value in log_probs.tolist()]}")
    print(f"loss {loss:.6f} (mean over {len(ids) - 1} target tokens, nats)")
    print(f"greedy {added}" + ("" if tokenizer is None else f" = {tokenizer.decode(added)!r}"))
    for problem in problems:
        print(f"FAILED: {problem}")
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
