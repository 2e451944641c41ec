"""The same documents in every format that data is read from, written by pyarrow: data/."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

OUT = Path(__file__).parent / "data"

TEXTS = ["one\ntwo\n", "né, déjà vu", "日本語のテキスト", "👧 counts as one character", "plain", "tabs\tand \"quotes\"", "long " * 40]
ROWS = [
    {
        "text": text,
        "id": None if i == 4 else f"doc-{i}",
        "positions": None if i % 3 == 2 else [1, 3],
        "prompt": f"What is {i} + {i}?",
        "response": f"It is {2 * i}.",
        "answer": 2 * i,
        "messages": [
            {"role": "user", "content": f"What is {i} + {i}?"},
            {"role": "assistant", "content": None if i == 5 else f"It is {2 * i}."},
        ],
        "score": None if i == 0 else i / 4,
        "kept": i % 2 == 0,
    }
    for i, text in enumerate(TEXTS)
]


def schema(string=pa.string(), list_of=pa.list_, text=None) -> pa.Schema:
    message = pa.struct([("role", string), ("content", string)])
    return pa.schema(
        [
            ("text", text or string),
            ("id", string),
            ("positions", list_of(pa.int64())),
            ("prompt", string),
            ("response", string),
            ("answer", pa.int32()),
            ("messages", list_of(message)),
            ("score", pa.float64()),
            ("kept", pa.bool_()),
        ]
    )


def main() -> None:
    OUT.mkdir(exist_ok=True)
    plain = pa.Table.from_pylist(ROWS, schema=schema())
    large = pa.Table.from_pylist(ROWS, schema=schema(pa.large_string(), pa.large_list))
    coded = plain.set_column(0, "text", plain["text"].dictionary_encode())

    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    (OUT / "documents.jsonl").write_text(lines, encoding="utf-8")
    (OUT / "documents.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))

    (OUT / "documents.jsonl.zst").write_bytes(pa.compress(lines.encode(), codec="zstd", asbytes=True))
    # A frame of unknown size that is more than is read at once, one that is to be skipped, and one of known size.
    parts = ["".join(f"line {i} of some text\n" for i in range(*ends)).encode() for ends in [(0, 150_000), (150_000, 150_100)]]
    with open(OUT / "frames.txt.zst", "wb") as file:
        with pa.CompressedOutputStream(pa.PythonFile(file), "zstd") as stream:
            stream.write(parts[0])
    with open(OUT / "frames.txt.zst", "ab") as file:
        file.write(bytes([0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0]) + b"abc")
        file.write(pa.compress(parts[1], codec="zstd", asbytes=True))

    for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
        pq.write_table(plain, OUT / f"{codec}.parquet", compression=codec, row_group_size=3)
    pq.write_table(large, OUT / "large.parquet", data_page_version="2.0", use_dictionary=False)
    pq.write_table(coded, OUT / "dictionary.parquet", row_group_size=4, data_page_size=16)

    with pa.ipc.new_file(OUT / "file.arrow", plain.schema) as writer:
        writer.write_table(plain, max_chunksize=3)
    with pa.ipc.new_stream(OUT / "stream.arrow", plain.schema) as writer:
        writer.write_table(plain, max_chunksize=3)
    with pa.ipc.new_stream(OUT / "dictionary.arrow", coded.schema) as writer:
        writer.write_table(coded, max_chunksize=3)
    with pa.ipc.new_file(OUT / "large.arrow", large.schema) as writer:
        writer.write_table(large, max_chunksize=5)
    for codec in ["uncompressed", "lz4", "zstd"]:
        feather.write_feather(plain, str(OUT / f"{codec}.feather"), compression=codec, chunksize=4)

    # One row group of many pages, whose places are told; and lists and structs that reach over pages.
    many = pa.Table.from_pylist([{**ROWS[i % 7], "id": f"row-{i}"} for i in range(600)], schema=schema())
    for version in ["1.0", "2.0"]:
        pq.write_table(
            many,
            OUT / f"pages-{version[0]}.parquet",
            compression="zstd",
            use_dictionary=["text", "prompt"],
            data_page_size=1024,
            write_batch_size=16,
            write_page_index=True,
            data_page_version=version,
        )

    # Text that is not UTF-8, which pyarrow does not check.
    column = pa.array([b"good", b"caf\xe9 au lait", b"fine"]).cast(pa.binary())
    broken = pa.Array.from_buffers(pa.string(), len(column), column.buffers())
    table = pa.table({"text": broken})
    pq.write_table(table, OUT / "latin1.parquet", use_dictionary=False)
    feather.write_feather(table, str(OUT / "latin1.feather"), compression="uncompressed")

    # Ids that a float64 does not hold.
    large_ids = pa.table({"text": ["a", "b", "c"], "id": pa.array([2**53 + 1, 2**53 + 2, -7], pa.int64())})
    pq.write_table(large_ids, OUT / "ids.parquet")
    feather.write_feather(large_ids, str(OUT / "ids.feather"), compression="uncompressed")

    # Rows without text, and a column of another type.
    odd = pa.table({"text": ["good", None, "fine"], "number": [1, 2, 3]})
    pq.write_table(odd, OUT / "null.parquet")
    feather.write_feather(odd, str(OUT / "null.feather"), compression="uncompressed")


if __name__ == "__main__":
    main()
