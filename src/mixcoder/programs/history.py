"""The losses of a training in a Python program, and their curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mixcoder.errors import ArgumentError
from mixcoder.registry.signatures import check_path
from mixcoder.training.training_loop import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = list[tuple[int, float]]
"""(images seen, loss), in their order."""


@dataclass(frozen=True)
class History:
    """How a training went.

        history = mixcoder.train(model, data, inputs=100_000)
        print(history.validation_loss, history.best.inputs)
        history.plot().save("losses.svg")

    In a notebook, it shows its curves.

    Attributes:
        progress: one entry for each few steps, in their order; at least one.
        was_interrupted: whether Ctrl-C ended the training before its last step.
        execution: how steps were computed.
        run: the run directory, where one was made.
    """

    progress: Sequence[Progress]
    was_interrupted: bool = False
    execution: str = ""
    run: Path | None = None

    @property
    def last(self) -> Progress:
        """The last entry."""
        return self.progress[-1]

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return self.last.step

    @property
    def inputs(self) -> int:
        """Images seen."""
        return self.last.inputs

    @property
    def training_losses(self) -> Points:
        """Images seen, and the mean training loss since the entry before."""
        return [(progress.inputs, progress.training_loss) for progress in self.progress]

    @property
    def validation_losses(self) -> Points:
        """Images seen, and the loss over the whole validation set."""
        validated = ((each.inputs, each.validation_loss) for each in self.progress)
        return [(inputs, loss) for inputs, loss in validated if loss is not None]

    @property
    def training_loss(self) -> float:
        """The last training loss."""
        return self.last.training_loss

    @property
    def validation_loss(self) -> float | None:
        """The last validation loss; None where nothing was validated yet."""
        losses = self.validation_losses
        return losses[-1][1] if losses else None

    @cached_property
    def best(self) -> Progress:
        """The entry of the smallest validation loss.

        Raises:
            ArgumentError: nothing was validated yet.
        """
        validated = [each for each in self.progress if each.validation_loss is not None]
        if not validated:
            raise ArgumentError("", "nothing was validated before the training ended")
        return min(validated, key=lambda each: each.validation_loss or 0.0)

    def plot(self) -> LossPlot:
        """Returns the curves of both losses over the images seen: shown in a notebook, or saved."""
        from mixcoder.report.figures import draw_losses  # imports matplotlib

        return LossPlot(draw_losses(self.training_losses, self.validation_losses))

    def _repr_svg_(self) -> str:
        return self.plot()._repr_svg_()


@dataclass(frozen=True)
class LossPlot:
    """A plot of losses. In a notebook, it shows itself.

    Attributes:
        figure: of matplotlib, to change it further.
    """

    figure: Figure

    def save(self, path: str | Path) -> None:
        """Writes the plot to a file: .svg, .png or .pdf.

        Raises:
            ArgumentError: the path is none, or ends otherwise.
            WriteError: the file cannot be written.
        """
        from mixcoder.report.figures import save_figure

        save_figure(self.figure, check_path("path", path, "a file to write"))

    def _repr_svg_(self) -> str:
        from mixcoder.report.figures import render_figure

        return render_figure(self.figure, "svg").decode()
