"""Reports: one HTML file of a run, to look at. Nothing heavy is imported until a report is written."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autodidact.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    if name == "write_report":
        from autodidact.report.page import write_report

        return write_report
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
