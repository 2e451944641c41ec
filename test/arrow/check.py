"""Reads test/arrow/rollouts.arrow with pyarrow (seen to pass with 26.0.1): python test/arrow/check.py"""

import json
from pathlib import Path

import pyarrow as pa

path = Path(__file__).with_name("rollouts.arrow")
with pa.OSFile(str(path)) as source:
    reader = pa.ipc.open_file(source)
    assert reader.num_record_batches == 3
    table = reader.read_all()
table.validate(full=True)
metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
assert metadata["schema_version"] == "1" and metadata["model_hash"] == "sha256:5eed", metadata
assert json.loads(metadata["config"])["data"] == ["träin.jsonl"]
assert table.num_rows == 6
assert table.schema.field("thought_tokens").type == pa.list_(pa.field("item", pa.int32(), nullable=False))
assert not any(field.nullable for field in table.schema)
rows = table.to_pylist()
assert rows[0]["thought"] == "<think>four, naïvely 🤔" and rows[0]["thought_tokens"] == [5, 151642, 0]
assert rows[0]["reward"] == 0.75 and rows[0]["reasoned_logprobs"] == [-0.25, -0.5]
assert rows[3]["thought_tokens"] == [] and rows[4]["document_id"] == "тест"
assert [row["finish_reason"] for row in rows] == ["closed", "length", "eos", "closed", "closed", "closed"]

# The bytes behind magic and padding are a stream: how a file that was cut is read.
with pa.ipc.open_stream(pa.BufferReader(path.read_bytes()[8:])) as stream:
    assert stream.read_all().equals(table)
print(f"ok: {table.num_rows} rows, {table.num_columns} columns")
