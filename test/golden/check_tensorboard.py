"""
Reads a run folder with TensorBoard's own event reader, as `tensorboard --logdir RUN` does, and compares with
RUN/metrics.jsonl: the same figures at the same steps, each once. By hand:

    python test/golden/check_tensorboard.py RUN
"""

import json
import math
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def float32(value: float | None) -> float:
    """As an event file holds it; metrics.jsonl has null for what is not finite."""
    return math.nan if value is None else struct.unpack("<f", struct.pack("<f", value))[0]


def expected_of(run: Path) -> dict[str, list[tuple[int, float]]]:
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step" and (value is None or isinstance(value, (int, float))):
                expected.setdefault(name, []).append((row["step"], float32(value)))
    return expected


def same(a: float, b: float) -> bool:
    return a == b or (not math.isfinite(a) and math.isnan(b))


def main() -> None:
    run = Path(sys.argv[1])
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})  # 0: keep all
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    expected = expected_of(run)
    problems = [f"{name}: only in one of the two" for name in set(tags) ^ set(expected)]
    for name in set(tags) & set(expected):
        found = [(event.step, event.value) for event in accumulator.Scalars(name)]
        equal = len(found) == len(expected[name]) and all(
            step == other_step and same(value, other) for (step, value), (other_step, other) in zip(found, expected[name])
        )
        if not equal:
            problems.append(f"{name}: found {found[:5]} ..., expected {expected[name][:5]} ...")
    files = len(list(run.glob("events.out.tfevents.*")))
    points = sum(len(values) for values in expected.values())
    print(f"{run}: {files} event file(s), {len(tags)} scalars, {points} points")
    for problem in problems:
        print(f"  FAILED: {problem}")
    if problems:
        raise SystemExit(1)
    print("  ok")


if __name__ == "__main__":
    main()
