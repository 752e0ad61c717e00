"""report: a run as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

from autodidact.report import write_report


def report(run: str | Path, *, out: str | Path | None = None) -> Path:
    """Draw a run, finished or not, as one HTML file that asks the network for nothing.

    Parameters
    ----------
    run : run folder.
    out : file to write; default ``report.html`` in the run folder.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileNotFoundError
        The folder does not exist, or is not a run's.
    """
    return write_report(run, out=out)
