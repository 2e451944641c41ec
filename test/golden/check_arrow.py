"""
Reads rollout files with pyarrow and checks them against docs/arrow-schema.md: columns and types, metadata, lengths of
the lists, finite log-probs, advantages of complete groups. By hand:

    python test/golden/check_arrow.py rollouts.arrow
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

import pyarrow as pa


def list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False))


COLUMNS = {
    "step": pa.int32(),
    "document_id": pa.string(),
    "position": pa.int32(),
    "rollout": pa.int32(),
    "context": pa.string(),
    "thought": pa.string(),
    "thought_tokens": list_of(pa.int32()),
    "thought_logprobs": list_of(pa.float32()),
    "sampling_logprobs": list_of(pa.float32()),
    "target": pa.string(),
    "target_tokens": list_of(pa.int32()),
    "reasoned_logprobs": list_of(pa.float32()),
    "baseline_logprobs": list_of(pa.float32()),
    "reward": pa.float64(),
    "advantage": pa.float64(),
    "finish_reason": pa.string(),
    "policy_version": pa.int32(),
    "baseline_version": pa.int32(),
}
METADATA = ("schema_version", "config", "model_hash")
FINISH_REASONS = ("closed", "length", "eos")
NO_BASELINE = -1
SHOWN = 10


def schema_problems(schema: pa.Schema) -> list[str]:
    problems = []
    for name, kind in COLUMNS.items():
        if name not in schema.names:
            problems.append(f"column {name} is missing")
        elif not schema.field(name).type.equals(kind):
            problems.append(f"column {name} is {schema.field(name).type}, expected {kind}")
        elif schema.field(name).nullable:
            problems.append(f"column {name} is nullable")
    metadata = schema.metadata or {}
    return problems + [f"metadata {key} is missing" for key in METADATA if key.encode() not in metadata]


def row_problems(row: dict) -> list[str]:
    thought, horizon = len(row["thought_tokens"]), len(row["target_tokens"])
    lengths = {
        "thought_logprobs": thought,
        "sampling_logprobs": thought,
        "reasoned_logprobs": horizon,
        "baseline_logprobs": 0 if row["baseline_version"] == NO_BASELINE else horizon,
    }
    problems = []
    for name, length in lengths.items():
        if len(row[name]) != length:
            problems.append(f"{name} has {len(row[name])} values, expected {length}")
        if not all(math.isfinite(value) and value <= 1e-6 for value in row[name]):
            problems.append(f"{name} has a value that is no log-probability: {row[name]}")
    if not (math.isfinite(row["reward"]) and math.isfinite(row["advantage"])):
        problems.append(f"reward {row['reward']} and advantage {row['advantage']} are not both finite")
    if row["finish_reason"] not in FINISH_REASONS:
        problems.append(f"finish_reason is {row['finish_reason']}")
    return problems


def group_problems(rows: list[dict], key: tuple) -> list[str]:
    """A group holds rollouts 0 .. G-1, and its advantages sum to 0: their mean is removed."""
    rollouts = sorted(row["rollout"] for row in rows)
    if rollouts != list(range(len(rows))):
        return [f"group {key} has rollouts {rollouts}"]
    total = sum(row["advantage"] for row in rows)
    scale = max(1.0, max(abs(row["reward"]) for row in rows))
    return [] if abs(total) <= 1e-4 * scale * len(rows) else [f"group {key}: advantages sum to {total}"]


def check(path: Path, groups: bool) -> list[str]:
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source)
        batches = reader.num_record_batches
        table = reader.read_all()
    table.validate(full=True)
    for field in table.schema:
        print(f"  {field.name}: {field.type}{'' if field.nullable else ' not null'}")
    problems = schema_problems(table.schema)
    if problems:
        return problems
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    config = json.loads(metadata["config"])
    print(f"  schema_version {metadata['schema_version']}, model_hash {metadata['model_hash']}, config {list(config)}")

    grouped = defaultdict(list)
    for index, row in enumerate(table.to_pylist()):
        problems += [f"row {index}: {problem}" for problem in row_problems(row)]
        grouped[row["step"], row["document_id"], row["position"]].append(row)
    if groups:
        for key, rows in grouped.items():
            problems += group_problems(rows, key)
    print(f"  {table.num_rows} rows in {batches} batches, {len(grouped)} groups")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description="Check rollout files with pyarrow.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--no-groups", action="store_true", help="do not ask for complete groups (filtered files)")
    arguments = parser.parse_args()
    failed = False
    for path in arguments.files:
        print(path)
        problems = check(path, groups=not arguments.no_groups)
        failed |= bool(problems)
        for problem in problems[:SHOWN]:
            print(f"  FAILED: {problem}")
        print(f"  {'ok' if not problems else f'{len(problems)} problem(s)'}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
