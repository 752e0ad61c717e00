"""The page of measured speed."""

from autodidact.catalog.speed.page import speed_page

__all__ = ["speed_page"]
