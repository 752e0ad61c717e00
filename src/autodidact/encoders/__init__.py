"""Names to encoders. Nothing heavy is imported before it is named."""

from autodidact.encoders.build import build, build_from_spec

__all__ = ["build", "build_from_spec"]
