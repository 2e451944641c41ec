"""Conversations through chat templates by transformers: text, tokens, and which of them the assistant wrote. README.md: chat/."""

import json

from golden import GOLDEN
from transformers import AutoTokenizer

OUT = GOLDEN / "chat"

# ChatML as Qwen3 writes it: earlier turns lose their thought, the last one always shows one.
BODY = """{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set parts = message.content.split('</think>') %}
        {%- set answer = parts[-1].lstrip('\\n') %}
        {%- set thought = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' %}
        {{- '<|im_start|>assistant\\n' }}
        GENERATION
        {%- if loop.last KEEP %}
            {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- answer + '<|im_end|>' }}
        END
        {{- '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def template(marked: bool, keep: bool) -> str:
    tags = ("{%- generation %}", "{%- endgeneration %}") if marked else ("", "")
    text = BODY.replace("GENERATION", tags[0]).replace("END", tags[1]).replace("KEEP", "or true" if keep else "")
    return "\n".join(line for line in text.splitlines() if line.strip()) + "\n"


CONVERSATIONS = [
    [{"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "It is 4."}],
    [
        {"role": "system", "content": "Be brief.\n"},
        {"role": "user", "content": "  né, déjà vu?  "},
        {"role": "assistant", "content": "<think>\nfrench\n</think>\n\nOui."},
        {"role": "user", "content": "日本語?"},
        {"role": "assistant", "content": "はい <b>👧</b>\n\n"},
    ],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "b"}],
    [{"role": "assistant", "content": "first"}, {"role": "assistant", "content": "second"}],
]


def main() -> None:
    OUT.mkdir(exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "checkpoints" / "sharded-bfloat16")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    templates = {
        "keeps-thoughts": template(marked=False, keep=True),
        "drops-thoughts": template(marked=False, keep=False),
        "marked": template(marked=True, keep=False),
        "marked-keeps-thoughts": template(marked=True, keep=True),
    }
    cases = []
    for messages in CONVERSATIONS:
        case = {"messages": messages, "rendered": {}}
        for name, source in templates.items():
            encoded = tokenizer.apply_chat_template(
                messages,
                chat_template=source,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=name.startswith("marked"),
            )
            case["rendered"][name] = {
                "text": tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False),
                "ids": encoded["input_ids"],
                **({"mask": encoded["assistant_masks"]} if name.startswith("marked") else {}),
            }
        cases.append(case)
    tokenizer.chat_template = templates["drops-thoughts"]
    tokenizer.save_pretrained(OUT)
    content = json.dumps({"templates": templates, "cases": cases}, ensure_ascii=False, indent=1)
    (OUT / "chat.json").write_text(content + "\n")


if __name__ == "__main__":
    main()
