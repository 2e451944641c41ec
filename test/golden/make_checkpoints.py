"""
Tiny random Qwen3 checkpoints as transformers writes them (checkpoints/NAME/), and what transformers computes with them
(logits/NAME.json, logits/NAME.safetensors). See README.md for names and shapes.

    python test/golden/make_checkpoints.py
"""

import shutil

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from golden import CHECKPOINTS, GOLDEN, generator, load_model, report, write_json, write_tensors

# Odd sizes and head_dim != hidden_size / heads: a swapped dimension does not go unnoticed.
SPECS = {
    "tied-gqa": {  # 4 query heads to one key/value head
        "config": dict(vocab_size=101, hidden_size=36, intermediate_size=52, num_hidden_layers=2)
        | dict(num_attention_heads=4, num_key_value_heads=1, head_dim=10, tie_word_embeddings=True)
        | dict(rms_norm_eps=1e-6, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    },
    "untied-mha": {  # 1 query head to a key/value head
        "config": dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2)
        | dict(num_attention_heads=3, num_key_value_heads=3, head_dim=14, tie_word_embeddings=False)
        | dict(rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default", rope_theta=500.0)),
    },
    "sharded-bfloat16": {  # several files; vocabulary larger than its tokenizer's, as Qwen3's is
        "config": dict(vocab_size=264, hidden_size=40, intermediate_size=56, num_hidden_layers=3)
        | dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True)
        | dict(rms_norm_eps=1e-6, rope_parameters=dict(rope_type="default", rope_theta=10000.0))
        | dict(eos_token_id=256, pad_token_id=256),
        "dtype": torch.bfloat16,
        "max_shard_size": "40kB",
        "tokenizer": True,
    },
    "untied-float16": {
        "config": dict(vocab_size=83, hidden_size=30, intermediate_size=44, num_hidden_layers=1)
        | dict(num_attention_heads=6, num_key_value_heads=2, head_dim=6, tie_word_embeddings=False)
        | dict(rms_norm_eps=1e-6, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
        "dtype": torch.float16,
    },
    "attention-bias": {  # biases on q, k, v and o; an epsilon large enough to matter
        "config": dict(vocab_size=67, hidden_size=28, intermediate_size=36, num_hidden_layers=2)
        | dict(num_attention_heads=4, num_key_value_heads=2, head_dim=12, tie_word_embeddings=True)
        | dict(attention_bias=True, rms_norm_eps=1e-2)
        | dict(rope_parameters=dict(rope_type="default", rope_theta=20000.0)),
    },
}
LENGTH = 12
PADDING = 4  # of the second row, on the left
PROMPT = 5
NEW_TOKENS = 16


def initialize(model: Qwen3ForCausalLM, seed: int) -> None:
    """Norm weights around 1 rather than ones, biases rather than zeros, and logits that are not flat."""
    random = generator(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = name.endswith("norm.weight")
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random) + (1.0 if is_norm else 0.0))


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, ids 0-255 in the order of ByteLevel's alphabet, then the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=512
    )


def write_checkpoint(name: str, spec: dict, seed: int) -> None:
    folder = CHECKPOINTS / name
    shutil.rmtree(folder, ignore_errors=True)
    config = Qwen3Config(max_position_embeddings=512, **spec["config"])
    model = Qwen3ForCausalLM(config)
    initialize(model, seed)
    model.to(spec.get("dtype", torch.float32))
    model.save_pretrained(folder, max_shard_size=spec.get("max_shard_size", "1GB"))
    if spec.get("tokenizer"):
        byte_level_tokenizer().save_pretrained(folder)
    report(folder)


def step_by_step(model, input_ids, attention_mask, position_ids) -> torch.Tensor:
    """Logits [batch, sequence, vocab] from one token at a time and the KV cache."""
    cache, logits = None, []
    for i in range(input_ids.shape[1]):
        step = slice(i, i + 1)
        outputs = model(
            input_ids=input_ids[:, step],
            attention_mask=attention_mask[:, : i + 1],
            position_ids=position_ids[:, step],
            past_key_values=cache,
            use_cache=True,
        )
        cache = outputs.past_key_values
        logits.append(outputs.logits)
    return torch.cat(logits, dim=1)


def greedy(model, prompts, attention_mask) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Tokens [batch, NEW_TOKENS], their log-probs at temperature 1, and the least lead of a choice over the second."""
    model.generation_config.eos_token_id = None  # always NEW_TOKENS tokens
    outputs = model.generate(
        input_ids=prompts,
        attention_mask=attention_mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = outputs.sequences[:, prompts.shape[1] :]
    logits = torch.stack(outputs.logits, dim=1)  # (batch, NEW_TOKENS, vocab)
    best = logits.topk(2, dim=-1).values
    log_probs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return tokens, log_probs, (best[..., 0] - best[..., 1]).min().item()


@torch.no_grad()
def write_logits(name: str, seed: int) -> None:
    model = load_model(name)
    input_ids = torch.randint(0, model.config.vocab_size, (2, LENGTH), generator=generator(seed))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, :PADDING] = 0
    input_ids[1, :PADDING] = 0
    position_ids = model._prepare_position_ids_for_generation(input_ids, {"attention_mask": attention_mask})
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
    outputs = model(**inputs, use_cache=True)
    logits = outputs.logits
    assert logits.dtype == torch.float32 and logits.std() > 0.5, "flat logits hide errors"

    real = attention_mask.bool()
    in_steps = step_by_step(model, **inputs)
    step_difference = (in_steps - logits)[real].abs().max().item()
    assert step_difference < 1e-4, step_difference
    exact = load_model(name, torch.float64)(**inputs).logits
    float64_difference = (exact - logits)[real].abs().max().item()
    assert float64_difference < 1e-4, float64_difference

    # log p(x_t | x_<t) for the tokens t >= 1; 0 where the token or the one before is padding.
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, input_ids[:, 1:, None])[..., 0]
    log_probs = log_probs * (real[:, 1:] & real[:, :-1])

    # Both prompts end at the same column; the second one is padded on the left.
    prompts = slice(0, PADDING + PROMPT)
    tokens, token_log_probs, lead = greedy(model, input_ids[:, prompts], attention_mask[:, prompts])
    assert lead > 1e-3, f"{name}: a choice of greedy decoding is too close to call ({lead}); change the seed"

    tensors = dict(inputs, logits=logits, log_probs=log_probs, greedy_ids=tokens, greedy_log_probs=token_log_probs)
    for i, layer in enumerate(outputs.past_key_values.layers):
        tensors |= {f"present.{i}.key": layer.keys, f"present.{i}.value": layer.values}
    write_tensors(GOLDEN / "logits" / f"{name}.safetensors", tensors)
    content = dict(
        checkpoint=f"checkpoints/{name}",
        greedy_prompt_tokens=PADDING + PROMPT,
        least_greedy_lead=lead,
        max_difference_step_by_step=step_difference,
        max_difference_float64=float64_difference,
    )
    write_json(GOLDEN / "logits" / f"{name}.json", content)
    print(f"  logits: step by step {step_difference:.1e}, float64 {float64_difference:.1e}, greedy lead {lead:.1e}")


if __name__ == "__main__":
    for seed, (name, spec) in enumerate(SPECS.items(), start=1):
        write_checkpoint(name, spec, seed)
        write_logits(name, 200 + seed)
