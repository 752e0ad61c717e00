"""autodidact: from unlabelled data of any kind to a useful model."""

__version__ = "0.1.0"
