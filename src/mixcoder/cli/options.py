"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """A format of listings."""

    text = "text"
    md = "md"
    csv = "csv"
    json = "json"


class WeightsOf(StrEnum):
    """A moment of a run whose weights a command takes."""

    final = "final"
    best = "best"


class Against(StrEnum):
    """A source of published figures to compare with."""

    article = "article"


AgainstOption = Annotated[Against | None, typer.Option(help="whose figures to put beside ours")]
AverageOption = Annotated[str | None, typer.Option(help="axis to average over, such as seed")]
FormatOption = Annotated[Format, typer.Option("--format", help="text, md, csv or json")]
ExperimentArgument = Annotated[Path, typer.Argument(help="experiment file (YAML)")]
SourceArgument = Annotated[Path, typer.Argument(help="experiment file, or a folder of runs")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SOURCE|KEY=VALUE]...", help="further files or folders; changes to all files"),
]
WhereOption = Annotated[
    list[str] | None, typer.Option(help="only these runs, such as mixer=cnn or 'ks>=5'; can be repeated")
]
RunsOption = Annotated[Path, typer.Option("--runs", help="folder of all run directories")]
RunArgument = Annotated[
    Path,
    typer.Argument(
        help="directory of a finished run, or of several with --where; or a trained model of models ls",
        metavar="RUN",
    ),
]
ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        help="files, folders, patterns, or images of a data source: digits, digits:train, digits:7",
        metavar="IMAGES...",
    ),
]
PictureOption = Annotated[Path, typer.Option("--output", "-o", help="picture to write")]
FitOption = Annotated[bool, typer.Option("--fit", help="resize and crop images of another size")]
BitsOption = Annotated[
    int | None, typer.Option(min=1, max=16, help="round each number of a code to so many bits (float32)")
]
StepsOption = Annotated[
    int | None, typer.Option(min=0, max=64, help="steps of refinement, 0 for none (as trained)")
]
WeightsOption = Annotated[
    WeightsOf, typer.Option(help="those of the end, or those of the smallest validation loss")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
OpenDataOption = Annotated[
    bool,
    typer.Option("--open-data", help="open the folder or the hub's data set that a run directory names"),
]
