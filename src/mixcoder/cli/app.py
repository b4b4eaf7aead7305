"""The command line: parses, calls, prints. Everything heavy is imported inside the commands."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer
from rich.console import Console

from mixcoder.cli import use
from mixcoder.cli.options import (
    DeviceOption,
    Format,
    FormatOption,
    OpenDataOption,
    RunsOption,
    SourceArgument,
    WhereOption,
)
from mixcoder.cli.output import print_note, print_rows, print_text
from mixcoder.cli.selection import chosen_records
from mixcoder.cli.streams import outliving
from mixcoder.errors import (
    CacheError,
    DataError,
    MixcoderError,
    MixcoderWarning,
    RunInterruptedError,
    TrainingError,
    is_out_of_memory,
)
from mixcoder.io.interrupts import check_interrupted, is_interrupted, noting_interrupts
from mixcoder.text.sanitize import sanitize

if TYPE_CHECKING:
    from mixcoder.data import DataSource
    from mixcoder.experiments.file.spec import Experiment, Run
    from mixcoder.experiments.results.records import Record

app = typer.Typer(
    name="mixcoder",
    help="Build, train and compare small image auto-encoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="The models and their layers.", no_args_is_help=True)
experiments_app = typer.Typer(help="The experiments that come with Mixcoder.", no_args_is_help=True)
data_app = typer.Typer(help="The data sources: list, fetch, verify.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
app.add_typer(experiments_app, name="experiments")
for command in use.COMMANDS:
    app.command()(command)


_plugins: list[str] = []
"""What `--plugin` named, for the workers of a sweep."""


class SchemaFormat(StrEnum):
    """How the schema of experiment files is printed."""

    json = "json"
    md = "md"


class Against(StrEnum):
    """Published figures to compare with."""

    article = "article"


class Cost(StrEnum):
    """What a model costs."""

    params = "params"
    time = "time"
    madds = "madds"


SourceArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as path=photos for folder")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from mixcoder import __version__

        print_text(f"mixcoder {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="Python file or module with your own mixing layers, models, data sources, loggers"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Options of every command."""
    _plugins[:] = plugin or []
    if plugin:
        from mixcoder.registry.plugins import load_plugin

        for name in plugin:
            load_plugin(name)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="experiment file (YAML)")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as training.inputs=50_000")
    ] = None,
    runs: RunsOption = Path("runs"),
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=256, help="runs side by side")] = 1,
    device: DeviceOption = "auto",
    format: FormatOption = Format.text,
) -> None:
    """Train what of an experiment file is not done yet, and print the result table."""
    try:
        with outliving("stdout", BrokenPipeError):
            _run(file, overrides or [], _RunOptions(runs, jobs, device, format))
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on from there") from None


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(help="experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: RunsOption = Path("runs"),
    format: FormatOption = Format.text,
) -> None:
    """Show every run of an experiment file with its size, cost and time; train nothing."""
    from mixcoder.experiments.file.spec import read_experiment
    from mixcoder.experiments.plans.plan import PLAN_COLUMNS, plan_rows, plan_summary, plan_values
    from mixcoder.experiments.results.columns import value_columns

    experiment = read_experiment(file, overrides or [])
    rows = plan_rows(experiment, runs)
    print_rows(rows, [*value_columns(plan_values(experiment)), *PLAN_COLUMNS], format)
    if format is Format.text:
        print_text(plan_summary(rows))


@app.command()
def table(
    source: SourceArgument,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    sort: Annotated[str | None, typer.Option(help="key to sort by; -KEY for the largest first")] = None,
    columns: Annotated[str | None, typer.Option(help="keys to show, separated by commas")] = None,
    average: Annotated[str | None, typer.Option(help="axis to average over, such as seed")] = None,
    against: Annotated[Against | None, typer.Option(help="whose figures to put beside ours")] = None,
    format: FormatOption = Format.text,
) -> None:
    """Print the results of an experiment file, or of all runs in a folder."""
    from mixcoder.experiments.results.listing import ListingOptions, list_results
    from mixcoder.experiments.results.records import read_records

    records = read_records(source, overrides or [], runs)
    options = ListingOptions(where or [], average, sort, columns or None, has_article=against is not None)
    print_rows(*list_results(records, options), format)


@app.command()
def plot(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="picture to write: .svg, .png or .pdf")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    pareto: Annotated[Cost | None, typer.Option(help="validation loss against this cost instead")] = None,
) -> None:
    """Draw training and validation loss of all runs, or what the loss costs."""
    from mixcoder.report.figures import loss_curves, pareto_plot, save_figure

    records = chosen_records(source, overrides, runs, where)
    save_figure(pareto_plot(records, pareto.value) if pareto else loss_curves(records), output)
    print_text(output)


@app.command()
def report(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="page to write: .html")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    open_data: OpenDataOption = False,
) -> None:
    """Write one page, which works offline, with all that is known of an experiment."""
    from mixcoder.experiments.runs.run_data import anything, at_hand
    from mixcoder.report.page import write_page

    may_open = at_hand if source.is_dir() and not open_data else anything
    write_page(chosen_records(source, overrides, runs, where), output, may_open)
    print_text(output)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file to write it to")] = None,
    format: Annotated[SchemaFormat, typer.Option("--format", help="json, or md to read")] = SchemaFormat.json,
) -> None:
    """Print the JSON Schema of experiment files, for editors: every key with its meaning."""
    from mixcoder.experiments.file.reference import reference_markdown
    from mixcoder.experiments.file.schema import schema_json
    from mixcoder.io.atomic_file import write_atomically

    text = schema_json() if format is SchemaFormat.json else reference_markdown()
    if output:
        write_atomically(output, text.encode())
        print_text(output)
    else:
        print(text, end="")


@models_app.command("ls")
def models_ls(format: FormatOption = Format.text) -> None:
    """List the models, the mixing layers and the activations."""
    from mixcoder.models import MIXERS, MODELS
    from mixcoder.models.activations import ACTIVATIONS
    from mixcoder.registry.signatures import summary
    from mixcoder.text.table import Column

    rows = [{"kind": "model", "name": name, "summary": summary(MODELS[name])} for name in MODELS]
    rows += [{"kind": "mixer", "name": name, "summary": summary(MIXERS[name])} for name in MIXERS]
    rows += [
        {"kind": "activation", "name": name, "summary": ACTIVATIONS[name].__name__} for name in ACTIVATIONS
    ]
    print_rows(rows, [Column("kind", "kind"), Column("name", "name"), Column("summary", "summary")], format)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="model name")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="such as patch_size=4, in place of the example's"),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Show a model layer by layer, with shapes and parameters."""
    import torch

    from mixcoder.experiments.file.yaml_file import parse_assignment
    from mixcoder.models import MODELS, create_model
    from mixcoder.models.summary import count_parameters, layer_rows
    from mixcoder.text.table import Column
    from mixcoder.text.values import format_count, format_shape

    chosen = dict(MODELS[name].example)
    chosen.update(parse_assignment(argument) for argument in arguments or [])
    with torch.device("meta"):
        model = create_model(name, **chosen)
    columns = [
        Column("layer", "layer"),
        Column("module", "module"),
        Column("output_shape", "output shape", format_shape),
        Column("params", "params", format_count, is_number=True),
    ]
    print_rows(layer_rows(model), columns, format)
    if format is Format.text:
        print_text(f"{name}: {', '.join(f'{key}={value}' for key, value in chosen.items())}")
        print_text(
            f"{format_count(count_parameters(model))} parameters, latent shape {model.latent_shape}, "
            f"compression ratio {model.compression_ratio:.4g}"
        )


@experiments_app.command("ls")
def experiments_ls(format: FormatOption = Format.text) -> None:
    """List the experiments that come with Mixcoder, with the result to expect."""
    from mixcoder.experiments.file.shipped import shipped_rows
    from mixcoder.text.table import Column
    from mixcoder.text.values import format_count

    columns = [
        Column("name", "name"),
        Column("runs", "runs", format_count, is_number=True),
        Column("expected", "expected"),
        Column("time", "time"),
    ]
    print_rows(shipped_rows(), columns, format)


@experiments_app.command("cp")
def experiments_cp(
    name: Annotated[str, typer.Argument(help="such as mnist/kernel-sizes")],
    folder: Annotated[Path, typer.Argument(help="where to")] = Path(),
) -> None:
    """Copy an experiment, and the files it extends, to make it your own."""
    from mixcoder.experiments.file.shipped import copy_shipped

    for path in copy_shipped(name, folder):
        print_text(path)


@data_app.command("ls")
def data_ls(format: FormatOption = Format.text) -> None:
    """List the data sources, and which of them are on this machine."""
    from mixcoder.data import SOURCES
    from mixcoder.text.table import Column
    from mixcoder.text.values import format_shape

    rows = [_source_row(name) for name in SOURCES]
    columns = [
        Column("source", "source"),
        Column("image_shape", "image shape", format_shape),
        Column("status", "status"),
    ]
    print_rows(rows, columns, format)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="data source")],
    arguments: SourceArguments = None,
    origin: Annotated[
        str | None, typer.Option("--from", help="in place of the well-known address: a folder's, or a zip's")
    ] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="published checksum of the zip")] = None,
) -> None:
    """Bring a data source's files to this machine, or pack a folder of images."""
    from mixcoder.cli.progress import data_progress

    source = _create_source(name, arguments)
    with data_progress(Console(stderr=True)) as progress:
        source.fetch(origin, sha256, progress)
        note = source.prepare(progress)
    data = source.load()
    if note:
        print_note(note)
    print_text(f"{name}: {len(data.train):,} images to train on, {len(data.validation):,} to validate on")
    print_text(source.status())


@data_app.command("verify")
def data_verify(
    name: Annotated[str, typer.Argument(help="data source")],
    arguments: SourceArguments = None,
    format: FormatOption = Format.text,
) -> None:
    """Read a data source's files whole and compare their checksums with the published ones."""
    from mixcoder.text.table import Column

    rows = _create_source(name, arguments).verify()
    print_rows(rows, [Column("file", "file"), Column("verdict", "verdict")], format)
    if any(row["verdict"].startswith("damaged") for row in rows):
        raise DataError(f"{name} is damaged; delete the files named above and run mixcoder data fetch {name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The `mixcoder` command.

    Exits with 0 when done, 1 when a run failed, 2 when the input was wrong, 3 when another process trains it.
    """
    logging.getLogger("stamina").setLevel(logging.ERROR)  # a retry is no news; a failure is an error
    _open_closed_streams()
    _let_streams_take_any_text()
    warnings.formatwarning = _format_warning
    with outliving("stderr", OSError), noting_interrupts():
        try:
            app(args=arguments, prog_name="mixcoder")
        except MixcoderError as error:
            _leave(str(error), error.exit_status)
        except KeyboardInterrupt:
            _leave(_INTERRUPTED)
        except SystemExit as left:
            if left.code == _INTERRUPTED_STATUS:
                _leave(_INTERRUPTED)
            raise
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except Exception as error:
            message = _INTERRUPTED if is_interrupted() else _said_by_the_machine(error)
            if message is None:
                raise
            _leave(message)


_INTERRUPTED = "interrupted"
_INTERRUPTED_STATUS = 130
"""With which typer ends after a Ctrl-C that reaches it, without a word."""


def _leave(message: str, status: int = 1) -> NoReturn:
    """Ends with a sentence."""
    print_note(f"error: {message}")
    sys.exit(status)


def _said_by_the_machine(error: Exception) -> str | None:
    """The sentence for what a machine could not do; None for what is a mistake of ours."""
    if is_out_of_memory(error):
        return "out of memory; this process must be allowed more of it"
    if isinstance(error, OSError):  # of the terminal, or the file that it is sent to
        place = f" ({error.filename})" if error.filename else ""
        return (error.strerror or str(error)).lower() + place
    return None


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns a warning as standard error shows it: one of ours is a sentence, without a line of code."""
    if issubclass(category, MixcoderWarning):
        return f"note: {sanitize(str(message), None)}\n"
    return _format_other_warning(message, category, filename, lineno, line)


_format_other_warning = warnings.formatwarning


def _open_closed_streams() -> None:
    """Gives a process that was started without a place for its output one that takes it all."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _let_streams_take_any_text() -> None:
    """Lets an encoding that lacks a character, such as a terminal's Latin-1, show its escape instead."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _RunOptions(NamedTuple):
    """Where and how runs are trained."""

    runs: Path
    jobs: int
    device: str
    format: Format


def _run(file: Path, overrides: Sequence[str], options: _RunOptions) -> None:
    from mixcoder.experiments.file.spec import read_experiment

    experiment = read_experiment(file, overrides)
    _prepare_data(experiment, options.runs)
    check_interrupted()
    if len(experiment.runs) == 1:
        _run_here(experiment.runs[0], options)
    else:
        _run_sweep(experiment, options)


def _prepare_data(experiment: Experiment, runs: Path) -> None:
    """Fetches and packs what is needed, before the first run begins; refuses results of other images."""
    from mixcoder.cli.progress import data_progress
    from mixcoder.experiments.runs.preparing import prepare_images

    with data_progress(Console(stderr=True)) as progress:
        notes = prepare_images(experiment.runs, runs, progress)
    for note in notes:
        print_note(note)


def _run_here(run: Run, options: _RunOptions) -> None:
    from mixcoder.cli.progress import training_progress
    from mixcoder.experiments.results.records import records_in
    from mixcoder.experiments.runs.training_run import train_run

    with training_progress(Console(stderr=True)) as observer:
        directory = train_run(run, options.runs, observer, options.device)
    _print_results(records_in(directory.path), options.format)
    if options.format is Format.text:
        print_text(directory.path)


def _run_sweep(experiment: Experiment, options: _RunOptions) -> None:
    from mixcoder.cli.progress import sweep_progress
    from mixcoder.experiments.results.records import records_of
    from mixcoder.experiments.sweeps.sweep import run_sweep

    with sweep_progress(Console(stderr=True)) as observer:
        states = run_sweep(experiment, options.runs, observer, options.jobs, options.device, _plugins)
    _print_results(records_of(experiment, options.runs), options.format)
    failed = [state for state in states if state.state == "failed"]
    if failed:
        reasons = "".join(f"\n  {state.name}: {state.reason}" for state in failed)
        raise TrainingError(f"{len(failed)} of {len(states)} runs failed:{reasons}")


def _print_results(records: Sequence[Record], format: Format) -> None:
    from mixcoder.experiments.results.listing import list_results

    print_rows(*list_results(records), format)


def _source_row(name: str) -> dict[str, Any]:
    """What `data ls` tells of a source; of one that must be told what to take, what that is."""
    from mixcoder.data import create_source

    try:
        source = create_source(name)
        return {"source": name, "image_shape": list(source.image_shape), "status": source.status()}
    except CacheError as error:
        return {"source": name, "image_shape": None, "status": str(error)}
    except MixcoderError as error:
        return {"source": name, "image_shape": None, "status": f"ready once told: {error}"}


def _create_source(name: str, arguments: Sequence[str] | None) -> DataSource:
    from mixcoder.data import create_source
    from mixcoder.experiments.file.yaml_file import parse_assignment

    return create_source(name, **dict(map(parse_assignment, arguments or [])))


if __name__ == "__main__":
    main()
