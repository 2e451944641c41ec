"""
An event file as TensorBoard's own code writes it (tensorboard/events.out.tfevents.golden) and the events in it
(tensorboard/events.json). Needs the tensorboard package alone.

    python test/golden/make_tensorboard.py
"""

import json
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FOLDER = Path(__file__).parent / "tensorboard"
LONG = {f"figure/{i}": i / 7 - 3 for i in range(40)}  # a length of more than one byte
EVENTS = [
    {"wallTime": 1700000000.25, "step": 0, "what": {"fileVersion": "brain.Event:2"}},
    {"wallTime": 1700000000.5, "step": 0, "what": "session start"},
    {"wallTime": 1700000001.125, "step": 0, "what": {"scalars": {"eval/information_gain": -1.5}}},
    {"wallTime": 1700000002.0, "step": 1, "what": {"scalars": {"loss": 0.0, "reward": 0.1, "größe": 1e30}}},
    {"wallTime": 1700000003.0, "step": 300, "what": {"scalars": {"grad_norm": "NaN", "kl": "Infinity"}}},
    {"wallTime": 1700000004.0, "step": 3000000000, "what": {"scalars": LONG}},
    {"wallTime": 1700000005.0, "step": 301, "what": "session start"},
    {"wallTime": 1700000006.0, "step": 301, "what": {"scalars": {}}},
]


def event_of(content: dict) -> Event:
    event = Event(wall_time=content["wallTime"], step=content["step"])
    what = content["what"]
    if what == "session start":
        event.session_log.status = SessionLog.START
    elif "fileVersion" in what:
        event.file_version = what["fileVersion"]
    else:
        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in what["scalars"].items()]
        event.summary.CopyFrom(Summary(value=values))
    return event


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / "events.out.tfevents.golden", "wb") as file:
        writer = RecordWriter(file)
        for content in EVENTS:
            writer.write(event_of(content).SerializeToString(deterministic=True))
        writer.flush()
    text = json.dumps(EVENTS, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / "events.json").write_text(text, encoding="utf-8")
