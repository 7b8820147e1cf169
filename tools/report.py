"""Write the report of all runs: results/README.md, with pictures in results/images, from nothing but the runs' files.

python -m tools.report                                  the runs below results/
python -m tools.report --results other --title "GPU"    another folder, another heading
python -m tools.report --pictures                       test images of every data set, also of those that may not be published
python -m tools.report --overwrite                      replace a report of runs that are not here, such as the committed one
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence
from urllib.parse import quote, unquote

from command_line import OneLineParser, exit_code_of
from datatools.demo import NAME as DRAWN  # pictures of it, and made from it, may be published
from errors import DataError
from metrics.facts import METRICS
from tools.report_pictures import comparison, loss_curves, score_curves
from tools.report_runs import METRICS_FILE, NAMES, Run, in_words, read_runs
from utils import write_bytes

PAGE, IMAGES = "README.md", "images"
MARK = "<!-- written by tools.report -->"
DIRECTIONS = ("A2B", "B2A")
CHARTED = ("l1", "kid")  # over iterations; where runs have neither, their first metric
INTRODUCTION = (
    "A row is a run, a column a score on the test images. A2B translates domain A to domain B, B2A the other way. "
    "↓: less is better, ↑: more is better; the best of a column is **bold**. The *untouched input* is scored as if it were the "
    "translation: a method that does no better has learned nothing that this score sees. Where it has two values, the runs were "
    "not scored on the same images and cannot be compared. ±: standard deviation over random subsets of images."
)
SETTINGS = "Settings that differ from the defaults, which are those of the authors' PyTorch code:"
# KID x100 as U-GAT-IT's authors print it (arXiv:1907.10830), A to B and B to A: table 3, and the ablations of table 1.
PAPER_KID = {
    "selfie2anime": {
        "U-GAT-IT": ("11.61 ± 0.57", "11.52 ± 0.57"),
        "CycleGAN": ("13.08 ± 0.49", "11.84 ± 0.74"),
        "U-GAT-IT, decoder IN": ("13.64", "13.58"),
        "U-GAT-IT, decoder LN": ("12.39", "13.17"),
        "U-GAT-IT, decoder AdaIN": ("12.29", "11.81"),
        "U-GAT-IT, decoder GN": ("12.76", "12.30"),
        "U-GAT-IT, without CAM": ("12.85", "14.06"),
        "U-GAT-IT, without generator CAM": ("12.33", "13.86"),
        "U-GAT-IT, without discriminator CAM": ("12.49", "13.33"),
    },
    "horse2zebra": {"U-GAT-IT": ("7.06 ± 0.80", "7.47 ± 0.71"), "CycleGAN": ("8.05 ± 0.72", "8.00 ± 0.66")},
    "cat2dog": {"U-GAT-IT": ("7.07 ± 0.65", "8.15 ± 0.66"), "CycleGAN": ("8.92 ± 0.69", "9.94 ± 0.36")},
    "photo2portrait": {"U-GAT-IT": ("1.79 ± 0.34", "1.69 ± 0.53"), "CycleGAN": ("1.84 ± 0.34", "1.82 ± 0.36")},
    # The paper has photo2vangogh. In the public set A are the paintings, so its A to B is our B2A and stands second here.
    "vangogh2photo": {"U-GAT-IT": ("5.61 ± 0.32", "4.28 ± 0.33"), "CycleGAN": ("4.68 ± 0.36", "5.46 ± 0.33")},
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    return exit_code_of(lambda: run(arguments), see="--results")


def run(arguments: Optional[Sequence[str]]) -> None:
    """Run one command line. Raises UserError or OSError."""
    parser = OneLineParser("python -m tools.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with the runs (default: results)")
    parser.add_argument("--title", default="Results", help="heading of the report (default: Results)")
    parser.add_argument("--pictures", action="store_true", help=f"show test images of every data set, not only of {DRAWN}")
    parser.add_argument("--overwrite", action="store_true", help="replace a report that shows runs which are not here")
    options = parser.parse_args(arguments)
    Report(options.results, options.title, options.pictures).write(options.overwrite)


class Report:
    """The page of the runs below `results`, made of blocks of Markdown, and its pictures. They are written once all are made."""

    def __init__(self, results: Path, title: str = "Results", all_pictures: bool = False) -> None:
        self.results, self.title, self.all_pictures = results, title, all_pictures
        self.pictures: Dict[str, bytes] = {}

    def write(self, overwrite: bool = False) -> None:
        """Write README.md and images, and remove pictures that only the report before this one showed.

        Raises DataError where there is no run, or where README.md may not be replaced: it was not written by this command, or
        shows runs that are not here, without `overwrite`.
        """
        page = self.results / PAGE
        earlier = page.read_text(encoding="utf-8", errors="replace") if page.exists() else MARK
        if MARK not in earlier:
            raise DataError(f"--results: {page} was not written by this command: move it away, then run the command again")
        lost = [path for path in re.findall(r"\(`([^`]+)`\):$", earlier, re.M) if not (self.results / path).is_dir()]
        if lost and not overwrite:
            raise DataError(f"{page} shows runs that are not here, such as {lost[0]}: say --overwrite, or give another --results")
        groups = read_runs(self.results)
        if not groups:
            raise DataError(f"--results {self.results}: there is no run to report (a folder with config.json and {METRICS_FILE})")
        blocks = [*self.introduction(groups), *(block for title, runs in groups.items() for block in self.section(title, runs))]
        for name, picture in self.pictures.items():
            write_bytes(self.results / IMAGES / name, picture)
        write_bytes(page, ("\n\n".join(filter(None, blocks)) + "\n").encode())
        before = {Path(unquote(link)).name for link in re.findall(rf"\]\({IMAGES}/([^/()]+\.png)\)", earlier)}
        for name in before - set(self.pictures):
            (self.results / IMAGES / name).unlink(missing_ok=True)
        print(f"written to {page}: runs {sum(map(len, groups.values()))}, pictures {len(self.pictures)}")

    def introduction(self, groups: Dict[str, List[Run]]) -> List[str]:
        """What the page is, how to make it again, and how to read its tables."""
        made_by = ["python", "-m", "tools.report", "--results", self.results.resolve().name]
        made_by += ["--title", self.title, *(["--pictures"] if self.all_pictures else [])]
        shown = {column.split("/")[1] for runs in groups.values() for column in columns_of(runs)}
        return [
            f"# {safe(self.title)}",
            MARK,
            f"Made from the runs' files by `{shlex.join(made_by)}`. To change it, train or evaluate, then run the command again.",
            INTRODUCTION,
            "\n".join(f"- {metric.title}: {metric.meaning}" for name, metric in METRICS.items() if name in shown),
        ]

    def section(self, title: str, runs: List[Run]) -> List[str]:
        """The runs that may be compared."""
        settings = {NAMES[run.method]: ", ".join(in_words(run.shared)) or "none" for run in runs}
        shared = "\n".join(f"- {method}: {safe(words)}" for method, words in settings.items())
        blocks = [f"## {safe(title)}", scores_table(runs), self.notes(runs), SETTINGS, shared, beside_the_paper(runs)]
        columns = columns_of(runs)
        charted = [column for column in columns if column.split("/")[1] in CHARTED] or columns[:1]
        known = {column: untouched(runs, column)[0] for column in charted if untouched(runs, column)}
        blocks.append(self.show(f"{title} scores", score_curves(runs, charted, known)))
        if self.all_pictures or runs[0].dataset == DRAWN:
            blocks += [self.show(f"{title} {direction}", comparison(runs, direction)) for direction in DIRECTIONS]
        else:  # others' pictures are not ours to publish
            blocks.append("Test images of this data set are left out, because they may not be free to publish (`--pictures`).")
        blocks.append("<details><summary>Losses of each run</summary>")
        for run in runs:  # `write` reads the folders back
            blocks += [f"{safe(run.label)} (`{run.path}`):", self.show(f"{title} {run.label} losses", loss_curves(run))]
        return [*blocks, "</details>"]

    def notes(self, runs: List[Run]) -> str:
        """What the runs' files say beside scores, and the command that evaluates those without."""
        notes: Dict[str, List[str]] = {}
        for run in runs:
            where = "/".join([self.results.resolve().name, *run.path.split("/")[:-2]])
            command = ["python", "main.py", "--method", run.method, "--dataset", run.dataset, "--result_dir", where]
            texts = [f"{names.upper()} not computed: {why}" for names, why in run.evaluation.get("not_computed", {}).items()]
            texts += [f"trained on {run.meta['machine']}"] if "machine" in run.meta else []
            texts += run.evaluation.get("notes", [])
            missing = [] if run.evaluation else [f"not evaluated: `{shlex.join([*command, '--phase', 'evaluate'])}`"]
            for note in [*missing, *map(safe, texts)]:
                notes.setdefault(note, []).append(safe(run.label))
        return "\n".join(f"- {note}" if len(who) == len(runs) else f"- {'; '.join(who)}: {note}" for note, who in notes.items())

    def show(self, title: str, picture: Optional[bytes]) -> str:
        """Keep a picture, if there is one, under a name made of its title; returns the Markdown that shows it."""
        if picture is None:
            return ""
        name = re.sub(r"\W+", "_", title.lower()).strip("_")
        while f"{name}.png" in self.pictures:
            name += "_"
        self.pictures[f"{name}.png"] = picture
        return f"![{safe(title)}]({IMAGES}/{quote(name)}.png)"


def safe(text: str) -> str:
    """Text out of a file on one line, without Markdown or HTML of its own."""
    return re.sub(r"([|*\[\]`<&])", r"\\\1", " ".join(text.split()))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    rule = [":--", *["--:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))


def scores_table(runs: List[Run]) -> str:
    """Runs against scores, with the untouched input last."""
    columns = {"": [*(safe(run.label) for run in runs), "*untouched input*"]}
    for column in columns_of(runs):
        direction, metric = column.split("/")
        facts = METRICS[metric]
        texts = [facts.text(value) for value in (run.scores().get(column) for run in runs) if value is not None]
        best = (max if facts.more_is_better else min)(texts, key=float) if len(texts) > 1 else None
        last = " / ".join(dict.fromkeys(map(facts.text, untouched(runs, column))))
        columns[f"{direction} {facts.title}"] = [*(score(run, column, best) for run in runs), last or "–"]
    columns["iterations"] = [*(f"{run.iteration:,}" for run in runs), ""]
    columns["minutes"] = [*(f"{run.meta['seconds'] / 60:.1f}" if run.meta.get("seconds") else "–" for run in runs), ""]
    rows = list(zip(*columns.values()))
    return table(list(columns), rows if columns_of(runs) else rows[:-1])


def columns_of(runs: List[Run]) -> List[str]:
    """DIRECTION/METRIC of the scores that some run has."""
    columns = [f"{direction}/{name}" for direction in DIRECTIONS for name in METRICS]
    return [column for column in columns if any(column in run.scores() for run in runs)]


def score(run: Run, column: str, best: Optional[str] = None) -> str:
    """The score of a run as it is shown, bold where it is `best`."""
    if column not in run.scores():
        return "–"
    value, deviation, facts = run.scores()[column], run.scores().get(f"{column}_std"), METRICS[column.split("/")[1]]
    text = "not finite" if value is None else facts.text(value)
    shown = text if deviation is None else f"{text} ± {facts.text(deviation)}"
    return f"**{shown}**" if text == best else shown


def untouched(runs: List[Run], column: str) -> List[float]:
    """The scores of the untouched input: one where all runs were scored on the same images."""
    scores = [run.scores("untouched").get(column) for run in runs]
    return list(dict.fromkeys(value for value in scores if value is not None))


def beside_the_paper(runs: List[Run]) -> str:
    """Our KID beside that of U-GAT-IT's paper, on its data sets."""
    rows, printed = [], PAPER_KID.get(runs[0].dataset, {})
    for run in [run for run in runs if run.label in printed]:
        kid = [(score(run, f"{direction}/kid"), papers) for direction, papers in zip(DIRECTIONS, printed[run.label])]
        rows.append([run.label, *kid[0], *kid[1]])
    return table(["KID x100 ↓", "A2B here", "A2B in the paper", "B2A here", "B2A in the paper"], rows) if rows else ""


if __name__ == "__main__":
    sys.exit(main())
