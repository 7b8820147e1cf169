"""Write tests/golden/health.json: what engine/health.py looks at, at each line of the logs of finished runs.

python -m tests.golden.make_health NAME=RUN_FOLDER ...      each with its data set still at its --data_root

Losses come from metrics.jsonl, statistics from the VisualDL log, and the looks from the sample grids, whose pictures are compared
with the samples as a training compares its translations.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

GOLDEN = Path(__file__).with_name("health.json")


def recorded(run: Path) -> Dict[str, Any]:
    """The method of a run, its loss settings, and what there was to watch at each line: losses, statistics, looks by direction."""
    from config import from_saved
    from dataset import open_training_data
    from engine.run import RunFolder
    from engine.training import Training
    from methods import build_method

    saved = json.loads((run / "config.json").read_text())
    config = from_saved(saved["method"], {**saved, "amp": None})  # no step is made: any machine will do
    training = Training(build_method(config), RunFolder(run), open_training_data(config).samples())
    watched = training.method.watched()
    terms = {name for names, _ in watched.discriminators.values() for name in names}
    terms |= {name for pair in watched.directions for name in pair}
    statistics = scalars(run, set(watched.mixtures))
    lines = []
    for text in (run / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        if "lr" in line:  # else it is an evaluation
            iteration = line["iteration"]
            looks = {direction: look(training, direction, iteration) for direction in training.samples}
            losses = {name: rounded(value) for name, value in line.items() if name in terms}
            lines.append({"iteration": iteration, "losses": losses, "statistics": statistics.get(iteration, {}), "looks": looks})
    return {"method": config.method, "lines": lines}


def look(training, direction: str, iteration: int) -> List[float]:
    """The look of the translations in a sample grid."""
    from engine.pictures import translate_sample
    from utils import read_image, to_network

    samples = training.samples[direction]
    image, rows = translate_sample(training.method, direction, samples[0])
    place = next(index for index, row in enumerate(rows) if np.array_equal(row.values, image))
    grid = read_image(training.run.samples / f"{direction}_{iteration:07d}.png")
    side = image.shape[-1]
    cells = grid[place * side : (place + 1) * side, -len(samples) * side :]
    translations = [to_network(np.ascontiguousarray(cell)) for cell in np.split(cells, len(samples), axis=1)]
    return [rounded(value) for value in training.look(direction, translations)]


def scalars(run: Path, tags: set) -> Dict[int, Dict[str, float]]:
    """The values of these tags by iteration."""
    from visualdl.proto.record_pb2 import Record
    from visualdl.reader.record_reader import RecordReader

    found: Dict[int, Dict[str, float]] = {}
    for content in RecordReader(str(run / "log" / "vdlrecords.run.log")).get_all():
        record = Record()
        record.ParseFromString(content)
        for value in record.values:
            if value.tag in tags:
                found.setdefault(value.id, {})[value.tag] = rounded(value.value)
    return found


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main(arguments: List[str]) -> int:
    from engine.cpu import configure_cpu

    configure_cpu()
    runs = {name: recorded(Path(run)) for name, run in (argument.split("=", 1) for argument in arguments)}
    GOLDEN.write_text(json.dumps(runs, separators=(",", ":")).replace('{"iteration"', '\n{"iteration"') + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
