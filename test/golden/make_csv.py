"""Golden data of csv files, as Python's csv module writes them.

Writes csv/: the same rows by several dialects, and rows.json with what they hold.
"""

import csv
import json
import random
from pathlib import Path

OUT = Path(__file__).parent / "csv"
PIECES = ["a", "bc ", " d", ",", '"', '""', "\n", "\r\n", "é", "日本", "🙂", "'", ";", "1.5", "\t"]
COLUMNS = ["Question", "Correct Answer", 'a "quoted", column', "note"]

rng = random.Random(7)
rows = [["x", "", "", ""], ['say "hi"', "1,5", "two\nlines", "end"]]
rows += [["".join(rng.choices(PIECES, k=rng.randint(0, 6))) for _ in COLUMNS] for _ in range(60)]
# csv writes a row of nothing but an empty first field like a blank line.
rows = [row for row in rows if any(row)]
DIALECTS = {
    "unix": {"lineterminator": "\n", "quoting": csv.QUOTE_ALL},
    "minimal": {"lineterminator": "\n", "quoting": csv.QUOTE_MINIMAL},
    "excel": {"dialect": "excel"},
}
OUT.mkdir(exist_ok=True)
for name, dialect in DIALECTS.items():
    with open(OUT / f"{name}.csv", "w", newline="", encoding="utf-8-sig" if name == "excel" else "utf-8") as file:
        csv.writer(file, **dialect).writerows([COLUMNS, *rows])
(OUT / "rows.json").write_text(json.dumps([dict(zip(COLUMNS, row)) for row in rows], ensure_ascii=False, indent=1) + "\n")
