"""The files of a co-localisation's folder, and its report: one table, a picture for each dataset. Torch-free.

runs/<name>/
  config.yaml, environment.json
  encoder/                     the files of an ordinary trial: checkpoint.pt, result.json, ...
  cells/<dataset>/<class>/
    result.json                CellResult: the same bytes for the same cell; written last
    samples.npz                image (S x H x W, uint8), predicted and true (S x 4, boxes in normalised coordinates)
  report.json, report.md, report.html, figures/
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stn_train import storage
from stn_train.colocalisation.spec import CellSpec, ColocalisationSpec, cells_of
from stn_train.errors import UserError
from stn_train.report.page import Block, Bullets, Code, Heading, Picture, Text, html, markdown, picture_in
from stn_train.report.plots import located, png
from stn_train.report.text import aligned
from stn_train.run_folder import OutputFolder, TrialFolder, load_arrays
from stn_train.specs import DatasetSpec, Spec
from stn_train.statistics import Estimate, error_over_seeds
from stn_train.storage import check_axes, write_bytes, write_json, write_text

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


@dataclass(frozen=True)
class ColocalisationFolder(OutputFolder):
    """The files of one co-localisation, by name."""

    @property
    def encoder(self) -> TrialFolder:
        """The training of the encoder."""
        return TrialFolder(self.path / "encoder")

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
        return load_arrays(
            self.samples(cell),
            self._anew(cell),
            lambda arrays: check_axes(arrays, {"image": "u Shw", "predicted": "f SB", "true": "f SB"}, {"B": 4}),
        )

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
    paper: str
    """The paper's percentage, where it has one for this dataset."""


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
    rows = found_in(spec, results)
    table = found_table(rows)
    figures = _draw(folder, results)
    blocks = _sections(spec, folder, results, table, figures)
    document, reading, page = (folder.path / f"report.{ending}" for ending in ("json", "md", "html"))
    write_json(document, {"format": 1, "name": spec.name, "source": spec.source, "rows": [asdict(row) for row in rows]})
    write_text(page, html(spec.name, blocks, folder.path))
    write_text(reading, markdown(spec.name, blocks))
    pictures = [folder.path / picture.path for picture in figures.values()]
    return ColocalisationReport(rows, table, [document, reading, page, *pictures])


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


def _of_the_paper(spec: ColocalisationSpec, dataset: DatasetSpec) -> str:
    """The paper's percentage for each class; of T and TC on its canvas, with its clutter, or nothing."""
    if spec.source != "mnist" or dataset.canvas != (84, 84) or dataset.translation != (-1, 1):
        return ""
    if dataset.clutter is None:
        return "100"
    return "75 to 94" if (dataset.clutter.patches, dataset.clutter.size) == (16, 6) else ""


def found_table(rows: Sequence[Found]) -> str:
    """The aligned table: a line for each class, and for each dataset what was found, the overlap, and the paper's."""
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    labels = sorted({row.label for row in rows if row.label is not None})
    places = {(row.dataset, row.label): _cells(row) for row in rows}
    lines = [["class", *(name for each in datasets for name in (f"{each}: found % [95 %]", "overlap", "paper"))]]
    for label in (*labels, None):
        cells = [places.get((dataset, label)) for dataset in datasets]
        if any(cells):
            name = "all" if label is None else str(label)
            lines.append([name, *(text for cell in cells for text in cell or ["-", "-", "-"])])
    return aligned(lines, names=1)


def _cells(row: Found) -> list[str]:
    found = row.found
    return [f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]", f"{row.overlap:.2f}", row.paper or "-"]


def _draw(folder: ColocalisationFolder, results: Sequence[CellResult]) -> dict[str, Picture]:
    """Draw a picture for each dataset; by title."""
    figures = {}
    for dataset in dict.fromkeys(result.cell.dataset.name for result in results):
        samples = {
            f"class {result.cell.label}": folder.load_samples(result.cell)
            for result in results
            if result.cell.dataset.name == dataset
        }
        figures[dataset] = picture_in(
            folder.figures, f"boxes@{dataset}.png", f"images of {dataset} with true and predicted boxes"
        )
        write_bytes(folder.path / figures[dataset].path, png(located(dataset, samples)))
    return figures


def _sections(
    spec: ColocalisationSpec,
    folder: ColocalisationFolder,
    results: Sequence[CellResult],
    table: str,
    figures: Mapping[str, Picture],
) -> list[Block]:
    """The report below its title."""
    return [
        Text(f"Where is the digit? Localisers trained without labels, by the likeness of their crops ({spec.source})."),
        Code(table),
        Heading("What the numbers mean"),
        Bullets(_meaning(spec, folder, results)),
        *(block for title, picture in figures.items() for block in (Heading(title), picture)),
        Heading("To run it again"),
        Text("In this folder:"),
        Code("stn-train colocalise --config config.yaml"),
    ]


def _meaning(spec: ColocalisationSpec, folder: ColocalisationFolder, results: Sequence[CellResult]) -> list[str]:
    encoder = folder.encoder.load_result()
    unfinished = len(cells_of(spec)) - len(results)
    lines = []
    if unfinished:
        lines.append(f"{unfinished} of {len(cells_of(spec))} cells have not finished; they are missing here.")
    if spec.validation:
        lines.append("These are digits held out of the training set: to tune by, not to report.")
    return [
        *lines,
        f"Found: the overlap of the predicted box with the digit's 28 x 28 frame is above {FOUND} (intersection over "
        "union). Overlap: its mean over all images, found or not.",
        "The interval says what other digits would give; it does not speak of other trainings.",
        "Each localiser was trained on images of one class, without labels or boxes, and is measured on images of "
        "other digits, which it never saw; the paper trains and measures on the same 100 images.",
        f"The encoder has an error of {encoder.error:.2f} % on its own {encoder.split} images "
        f"({encoder.trial.dataset.name}).",
    ]
