"""What Math-Verify says of the pairs in equivalence/pairs.json, and of all pairs of its `answers`: equivalence/math-verify.json.

A pair is (answer, reference); verdicts are [verify(reference, answer), verify(answer, reference)], null where one was not read.
"""

import itertools
import json
import logging
from pathlib import Path

from math_verify import parse, verify

logging.disable(logging.CRITICAL)
OUT = Path(__file__).parent / "equivalence"
data = json.loads((OUT / "pairs.json").read_text())
pairs = [*map(tuple, data["same"]), *map(tuple, data["different"]), *itertools.combinations(data["answers"], 2)]
parsed = {text: parse(f"${text}$") for pair in pairs for text in pair}


def verdict(answer: str, reference: str) -> list[bool] | None:
    if not parsed[answer] or not parsed[reference]:
        return None
    return [verify(parsed[reference], parsed[answer]), verify(parsed[answer], parsed[reference])]


lines = [json.dumps([*pair, verdict(*pair)], ensure_ascii=False) for pair in pairs]
(OUT / "math-verify.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
