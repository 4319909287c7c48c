"""The files of a co-localisation's folder, and its report: one table, a picture for each dataset. Torch-free.

runs/<name>/
  config.yaml, environment.json
  encoder/                     the files of an ordinary trial: checkpoint.pt, result.json, ...
  cells/<dataset>/<class>/
    result.json                CellResult: the same bytes for the same cell; written last
    samples.npz                image (S x H x W, uint8), predicted and true (S x 4, boxes in normalised coordinates)
  report.json, report.md, report.html, figures/
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stn_train import storage
from stn_train.colocalisation.spec import CellSpec, ColocalisationSpec, cells_of
from stn_train.errors import UserError
from stn_train.report.page import html, markdown, render
from stn_train.report.plots import figure_file, located
from stn_train.run_folder import TrialFolder, TrialResult
from stn_train.specs import DatasetSpec, Spec
from stn_train.statistics import Estimate, error_over_seeds
from stn_train.storage import json_text, write

FOUND = 0.5
"""A digit counts as found where the overlap of the predicted box with the true one is above this (paper, A.2)."""


class CellResult(Spec):
    """What a finished cell found: for each image of its class, the overlap and the number of the digit shown."""

    format: Literal[3] = 3
    cell: CellSpec
    loss: float = Field(description="mean over the last tenth of the steps")
    overlap: Annotated[tuple[float, ...], Field(strict=False, min_length=2)]
    digit: Annotated[tuple[int, ...], Field(strict=False, min_length=2)]

    @property
    def found(self) -> float:
        """Images whose digit was found, in percent."""
        return 100 * sum(each > FOUND for each in self.overlap) / len(self.overlap)


class ColocalisationFolder:
    """The files of one co-localisation, by name; `encoder` has those of the encoder's training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.figures = path / "figures"
        self.encoder = TrialFolder(path / "encoder")

    def cell(self, cell: CellSpec) -> Path:
        """The folder of one cell."""
        return self.path / "cells" / cell.key

    def result(self, cell: CellSpec) -> Path:
        """The finished cell's CellResult."""
        return self.cell(cell) / "result.json"

    def samples(self, cell: CellSpec) -> Path:
        """A few images with their boxes."""
        return self.cell(cell) / "samples.npz"

    def load_result(self, cell: CellSpec) -> CellResult:
        """Raises UserError where the file is missing or damaged."""
        return storage.read_record(CellResult, self.result(cell), self._anew(cell))

    def load_samples(self, cell: CellSpec) -> dict[str, NDArray[np.generic]]:
        """Raises UserError where the file is missing or damaged."""
        axes = {"image": "u Shw", "predicted": "f SB", "true": "f SB"}
        return storage.read_arrays(self.samples(cell), self._anew(cell), axes, {"B": 4})

    def _anew(self, cell: CellSpec) -> str:
        """How to mend a cell's files."""
        return f"delete {self.cell(cell)} and give the run's command again, which trains it anew"


@dataclass(frozen=True)
class Found:
    """How often the digits of one dataset and class, or of all its finished classes, were found."""

    dataset: str
    label: int | None
    images: int
    found: Estimate
    """Percent, with the 95 % interval: what other digits would give."""
    overlap: float
    """The mean over all images, found or not."""
    paper: tuple[int, ...]
    """The paper's percentage, or its lowest and its highest, where it has one for this dataset."""


@dataclass(frozen=True)
class ColocalisationReport:
    """What was written: the table's cells, the table as text, and the files that show it."""

    rows: list[Found]
    table: str
    files: list[Path]


def write_colocalisation_report(spec: ColocalisationSpec, folder: ColocalisationFolder) -> ColocalisationReport:
    """Write report.json, report.md, report.html and the figures from what has finished in `folder`.

    Raises UserError where nothing has, or where a file is missing or damaged.
    """
    results = [folder.load_result(cell) for cell in cells_of(spec) if folder.result(cell).exists()]
    if not results:
        raise UserError(f"{folder.path} has nothing to report yet: none of its cells has finished")
    rows, pictures = found_in(spec, results), _draw(folder, results)
    document, reading, page = (folder.path / f"report.{ending}" for ending in ("json", "md", "html"))
    encoder = folder.encoder.load(TrialResult, folder.encoder.result)
    said = {
        **{"spec": spec, "rows": rows, "pictures": pictures, "encoder": encoder},
        **{"finished": len(results), "planned": len(cells_of(spec)), "threshold": FOUND},
    }
    write(
        document,
        json_text({"format": 2, "name": spec.name, "source": spec.source.label, "rows": [asdict(row) for row in rows]})
        + "\n",
    )
    text = markdown("colocalisation.j2", **said)
    figures = {path: (folder.path / path).read_bytes() for path in pictures.values()}
    write(page, html({"body": text}, figures, title=spec.name))
    write(reading, text)
    files = [document, reading, page, *(folder.path / path for path in pictures.values())]
    return ColocalisationReport(rows, render("text.j2", "found", rows), files)


def found_in(spec: ColocalisationSpec, results: Sequence[CellResult]) -> list[Found]:
    """A cell of the table for each result, and one for all classes of each dataset, in the configuration's order."""
    rows = []
    for dataset in spec.datasets:
        of_dataset = [result for result in results if result.cell.dataset == dataset]
        groups = [(result.cell.label, [result]) for result in of_dataset] + [(None, of_dataset)] * (len(of_dataset) > 1)
        rows += [_found(spec, dataset, label, group) for label, group in groups]
    return rows


def _found(spec: ColocalisationSpec, dataset: DatasetSpec, label: int | None, results: list[CellResult]) -> Found:
    overlap = np.concatenate([result.overlap for result in results])
    digit = np.concatenate([result.digit for result in results])
    missed = error_over_seeds(overlap[None] <= FOUND, digit)
    found = Estimate(100 - missed.value, 100 - missed.high, 100 - missed.low)
    return Found(dataset.name, label, len(overlap), found, float(overlap.mean()), _of_the_paper(spec, dataset))


def _of_the_paper(spec: ColocalisationSpec, dataset: DatasetSpec) -> tuple[int, ...]:
    """The paper's percentage for each class; of T and TC on its canvas, with its clutter, or nothing."""
    if spec.source.name != "mnist" or dataset.canvas != (84, 84) or dataset.translation != (-1, 1):
        return ()
    if dataset.clutter is None:
        return (100,)
    return (75, 94) if (dataset.clutter.patches, dataset.clutter.size) == (16, 6) else ()


def _draw(folder: ColocalisationFolder, results: Sequence[CellResult]) -> dict[str, str]:
    """Draw a picture for each dataset; the paths, relative to the report."""
    pictures = {}
    for dataset in dict.fromkeys(result.cell.dataset.name for result in results):
        samples = {
            f"class {result.cell.label}": folder.load_samples(result.cell)
            for result in results
            if result.cell.dataset.name == dataset
        }
        pictures[dataset] = f"{folder.figures.name}/boxes@{dataset}.png"
        write(folder.path / pictures[dataset], figure_file(located(dataset, samples)))
    return pictures
