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

from tqdm import tqdm

from datatools.demo import NAME as DRAWN  # pictures of it, and made from it, may be published
from errors import DataError, UserError
from tools.report_pictures import comparison, loss_curves, plain_style, score_curves
from tools.report_runs import Group, Run, common_settings, group_runs, read_runs, slug
from tools.report_tables import (
    METRICS,
    NEED_WEIGHTS,
    Column,
    beside_the_paper,
    columns_of,
    disagreement,
    papers,
    safe,
    scores_table,
    untouched,
)
from utils import write_bytes

PAGE, IMAGES = "README.md", "images"
MARK = "<!-- written by tools.report -->"
CHARTED = ("l1", "kid")  # over iterations; where runs have neither, their first metric


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with the runs (default: results)")
    parser.add_argument("--title", default="Results", help="heading of the report (default: Results)")
    parser.add_argument(
        "--pictures",
        action="store_true",
        help=f"show test images of every data set, not only of {DRAWN}, which is drawn and free of others' rights",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a report that shows runs which are not here")
    options = parser.parse_args(arguments)
    try:
        Report(options.results, options.title, options.pictures).write(options.overwrite)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: --results: cannot write {error.filename or options.results} ({error.strerror})", file=sys.stderr)
        return 1
    return 0


class Report:
    """The page and its pictures, which are written once all are made.

    Args:
        results: the folder of the runs, and of the report.
        title: the page's heading.
        all_pictures: show test images of every data set.
    """

    def __init__(self, results: Path, title: str = "Results", all_pictures: bool = False) -> None:
        self.results, self.title, self.all_pictures = results, title, all_pictures
        self.pictures: Dict[str, bytes] = {}
        self.problems: List[str] = []

    def write(self, overwrite: bool = False) -> None:
        """Write README.md and images, and remove pictures that only the report before this one showed.

        Args:
            overwrite: also where README.md shows runs whose folders are not here, so that they would be lost.

        Raises:
            DataError: there is no run, or README.md is not a report, or one that would be lost.
        """
        if not self.results.is_dir():
            raise DataError(f"--results {self.results}: there is no such folder; train a method first, or name the runs' folder")
        page = self.results / PAGE
        earlier = page.read_text(encoding="utf-8", errors="replace") if page.exists() else MARK
        if MARK not in earlier:
            raise DataError(f"{page} was not written by this command: move it away, then run the command again")
        elsewhere = [path for path in re.findall(r"\(`([^`]+)`\):$", earlier, re.M) if not (self.results / path).is_dir()]
        if elsewhere and not overwrite:
            raise DataError(
                f"{page} shows runs that are not here ({elsewhere[0]}{', ...' if len(elsewhere) > 1 else ''}): "
                "say --overwrite to replace it, or move it away"
            )
        runs, problems = read_runs(self.results)
        for problem in problems:
            self.pass_over(problem)
        if not runs:
            raise DataError(f"--results {self.results}: no run there that can be read (a folder with config.json, metrics.jsonl)")
        content = "\n".join(self.lines(runs))
        for name, picture in self.pictures.items():
            write_bytes(self.results / IMAGES / name, picture)
        write_bytes(page, content.encode())
        self._remove_stale(earlier)
        print(f"written to {page}: runs {len(runs)}, pictures {len(self.pictures)}")

    def lines(self, runs: Sequence[Run]) -> List[str]:
        """The page from top to bottom; makes the pictures."""
        groups = group_runs(runs)
        lines = self.introduction(groups)
        with plain_style():
            for group in tqdm(groups, desc="report", unit="group", disable=None):
                lines += [f"## {safe(group.title)}", "", *scores_table(group), *settings(group), *self.not_evaluated(group)]
                lines += [*beside_the_paper(group), *self.scores(group), *self.comparisons(group), *self.losses(group)]
        lines += papers(groups)
        if self.problems:
            lines += ["## Passed over", "", *[f"- {safe(problem)}" for problem in self.problems], ""]
        return lines

    def introduction(self, groups: Sequence[Group]) -> List[str]:
        """What the page is, how to make it again, and how to read its tables."""
        name = self.results.resolve().name
        flags = [] if name == "results" else ["--results", name]
        flags += [] if self.title == "Results" else ["--title", self.title]
        flags += ["--pictures"] if self.all_pictures else []
        shown = {column.metric for group in groups for column in columns_of(group)}
        meanings = [f"- {metric.title}: {metric.meaning}" for name, metric in METRICS.items() if name in shown]
        command = shlex.join(["python", "-m", "tools.report", *flags])
        lacking = any(run.evaluation and set(NEED_WEIGHTS) & set(run.evaluation.reasons) for g in groups for run in g.runs)
        return [
            f"# {safe(self.title)}",
            "",
            MARK,
            "",
            f"Made from the files of the runs by `{command}`. To change this page, train or evaluate, then run the command again.",
            "",
            "A row is a run, a column a score on the test images. A2B translates domain A to domain B, B2A the other way. "
            "↓: less is better, ↑: more is better; the best of a column is **bold**. The *untouched input* is scored as if it were "
            "the translation: a method that does no better has learned nothing that this score sees.",
            "",
            *([*meanings, ""] if meanings else []),
            *(["KID and FID need published Inception weights; without them they are *not computed*.", ""] if lacking else []),
        ]

    def not_evaluated(self, group: Group) -> List[str]:
        """The runs without scores, each with the command that makes them."""
        lines = [f"- {safe(run.label)}: {self._how_to_evaluate(run)}" for run in group.runs if run.evaluation is None]
        return ["Not evaluated:", "", *lines, ""] if lines else []

    def _how_to_evaluate(self, run: Run) -> str:
        *above, dataset, method = ["", "", *run.path.split("/")]
        if (dataset, method) != (run.settings["dataset"], run.method):
            return "main.py cannot find it, because its folder is not DATASET/METHOD"
        folder = "/".join([self.results.resolve().name, *filter(None, above)])
        where = [] if folder == "results" else ["--result_dir", folder]
        command = ["python", "main.py", "--method", method, "--dataset", dataset, *where, "--phase", "evaluate"]
        return f"`{shlex.join(command)}`"

    def scores(self, group: Group) -> List[str]:
        """The metrics over iterations."""
        logged = {name.split("/")[1] for run in group.runs for line in run.scores for name in line if "/" in name}
        known = [name for name in METRICS if name in logged]
        metrics = [name for name in known if name in CHARTED] or known[:1]
        dashed = {}
        for column in [Column(direction, name) for direction in group.directions for name in metrics]:
            if not disagreement(group, column):
                dashed[column] = next(iter(untouched(group, column).values()), None)
        curves = score_curves(group, metrics, dashed)
        if curves is None:
            return []
        return [self.add(f"{group.title} scores", curves, f"Scores over iterations: {group.title}"), ""]

    def comparisons(self, group: Group) -> List[str]:
        """The same test images through every run. Others' pictures are not ours to publish."""
        if not self.all_pictures and group.dataset != DRAWN:
            return ["Test images of this data set are left out, because they may not be free to publish (`--pictures`).", ""]
        lines = []
        for direction in ("A2B", "B2A"):
            picture, problems = comparison(group, direction)
            for problem in problems:
                self.pass_over(problem)
            if picture is not None:
                shown = self.add(f"{group.title} {direction}", picture, f"Test images, {direction}: {group.title}")
                lines += [f"The first test images, {direction}:", "", shown, ""]
        return lines

    def losses(self, group: Group) -> List[str]:
        """The loss terms of each run, folded away, with its folder."""
        lines = []
        for run in group.runs:
            curves = loss_curves(run)
            if curves is not None:
                shown = self.add(f"{group.title} {run.label} losses", curves, f"Losses of {run.label}")
                lines += [f"{safe(run.label)} (`{run.path}`):", "", shown, ""]
        return ["<details><summary>Losses of each run</summary>", "", *lines, "</details>", ""] if lines else []

    def add(self, title: str, picture: bytes, alternative: str) -> str:
        """Keep a picture under a name made of its title; returns the Markdown that shows it."""
        name, number = f"{slug(title)}.png", 1
        while name in self.pictures:
            number += 1
            name = f"{slug(title)}_{number}.png"
        self.pictures[name] = picture
        return f"![{safe(alternative)}]({IMAGES}/{quote(name)})"

    def pass_over(self, problem: str) -> None:
        """Say on stderr and on the page what is not reported."""
        self.problems.append(problem)
        print(f"warning: passed over {problem}", file=sys.stderr)

    def _remove_stale(self, earlier: str) -> None:
        for name in re.findall(rf"\]\({IMAGES}/([^/()]+\.png)\)", earlier):
            file = self.results / IMAGES / unquote(name)
            if file.name not in self.pictures and file.parent == self.results / IMAGES:
                file.unlink(missing_ok=True)


def settings(group: Group) -> List[str]:
    """What most runs of a method have in common, beside the papers' defaults."""
    lines = [f"- {method}: {safe(words)}" for method, words in common_settings(group).items()]
    return ["Settings that differ from the defaults, which are the papers':", "", *lines, ""]


if __name__ == "__main__":
    sys.exit(main())
