"""
Distributions cut by transformers' logits processors (temperature, top-k, top-p, min-p), in float64: sampling/sampling.json
(the settings) and sampling.safetensors (logits and log-probs). See README.md.

    python test/golden/make_sampling.py
"""

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from golden import GOLDEN, generator, report, write_json, write_tensors

OFF = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
CASES = [
    OFF | case
    for case in (
        dict(temperature=0.7),
        dict(top_k=1),
        dict(top_k=7),
        dict(temperature=1.5, top_k=1000),
        dict(top_p=0.05),
        dict(top_p=0.5),
        dict(temperature=0.7, top_p=0.95),
        dict(top_p=0.999),
        dict(min_p=0.02),
        dict(temperature=2.0, min_p=0.3),
        dict(top_k=20, top_p=0.8),
        dict(top_p=0.9, min_p=0.1),
        dict(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
    )
]
# Standard deviation of the logits by vocabulary; the flat large one takes more than a thousand tokens for its top-p.
SPREADS = {101: 2.0, 1500: 0.5}


def processors(temperature: float, top_k: int, top_p: float, min_p: float) -> LogitsProcessorList:
    """In the order of GenerationMixin._get_logits_processor."""
    steps = [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    steps += [TopKLogitsWarper(top_k)] if top_k != 0 else []
    steps += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    steps += [MinPLogitsWarper(min_p)] if min_p > 0 else []
    return LogitsProcessorList(steps)


if __name__ == "__main__":
    tensors = {}
    for vocabulary, spread in SPREADS.items():
        logits = spread * torch.randn([vocabulary], generator=generator(vocabulary))
        rows = []
        for case in CASES:
            cut = processors(**case)(None, logits[None].double())[0]
            rows.append(cut.log_softmax(dim=-1).float())
            print(f"{vocabulary} {case}: {cut.isfinite().sum()} kept")
        tensors[f"logits.{vocabulary}"] = logits
        tensors[f"log_probs.{vocabulary}"] = torch.stack(rows)
    write_json(GOLDEN / "sampling" / "sampling.json", dict(cases=CASES, vocabularies=list(SPREADS)))
    write_tensors(GOLDEN / "sampling" / "sampling.safetensors", tensors)
    report(GOLDEN / "sampling")
