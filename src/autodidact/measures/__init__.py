"""Measures of embeddings and predictions: functions of tensors, without training."""

from autodidact.measures.spectrum import rankme

__all__ = ["rankme"]
