"""Write the measurements of a run for TensorBoard (needs [tensorboard])."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mirror_rt._extras import require
from mirror_rt.errors import TargetError

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger:
    """An event file that is written during a run."""

    def __init__(self, folder: Path | None) -> None:
        """Choose the folder, created if missing; None writes nothing.

        Raises:
            MissingExtraError: There is a folder, and TensorBoard is not installed.
            TargetError: The folder cannot be created.
        """
        self._folder = folder
        self._writer: Any = None
        if folder is None:
            return
        require("tensorboard", extra="tensorboard")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(
                f"{folder}: cannot hold TensorBoard's events ({error.strerror}); name a folder"
            ) from error

    def begin(self, done: int) -> None:
        """Open the file. Steps after ``done`` that an earlier run wrote are ignored."""
        if self._folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            writer: Any = SummaryWriter  # it has no types
            self._writer = writer(str(self._folder), purge_step=done + 1 if done else 0)

    def step(self, step: int, *, loss: float, strings_per_second: float) -> None:
        """Write the numbers of a step."""
        self._write(step, {"train/loss": loss, "train/strings_per_second": strings_per_second})

    def evaluation(self, measured: Mapping[str, float] | None) -> None:
        """Write a measurement on held-out pairs, as ``EvalMonitor.measure`` returns it."""
        if measured is not None:
            values = {f"eval/{name}": measured[name] for name in measured if name != "step"}
            self._write(int(measured["step"]), values)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
