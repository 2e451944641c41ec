"""What the golden generators share: folders, tiny models in float32 or float64, deterministic files."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Qwen3ForCausalLM
from transformers.models.qwen3 import modeling_qwen3
from transformers.utils import logging

GOLDEN = Path(__file__).parent
CHECKPOINTS = GOLDEN / "checkpoints"

logging.disable_progress_bar()
torch.set_num_threads(1)  # the order of sums, and so the last bits, depend on it
torch.use_deterministic_algorithms(True)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def load_model(name: str, dtype: torch.dtype = torch.float32) -> Qwen3ForCausalLM:
    """
    A golden checkpoint as transformers computes it. Its modules cast to float32 inside; for float64 those that do are
    replaced by PyTorch's own functions, so that every operation is in double precision.
    """
    double = dtype == torch.float64
    model = Qwen3ForCausalLM.from_pretrained(
        CHECKPOINTS / name, dtype=dtype, attn_implementation="sdpa" if double else "eager"
    )
    if double:
        for module in model.modules():
            if isinstance(module, modeling_qwen3.Qwen3RMSNorm):
                module.forward = rms_norm_of(module)
        model.model.rotary_emb.forward = rotary_embedding_of(model.config)
    return model.eval()


def rms_norm_of(module):
    return lambda x: F.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def rotary_embedding_of(config):
    def forward(x, position_ids):
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
        angles = position_ids[..., None].double() * config.rope_parameters["rope_theta"] ** -exponents
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    return forward


def parameters(model) -> dict[str, torch.nn.Parameter]:
    """Every parameter by its Hugging Face name; a tied head is the embedding."""
    return dict(model.named_parameters())


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, path)


def report(path: Path) -> None:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    size = sum(file.stat().st_size for file in files)
    print(f"{path.relative_to(GOLDEN)}: {len(files)} file(s), {size / 1000:.1f} kB")
