"""Self-supervised pretraining as a scikit-learn transformer: `fit` on unlabelled rows, `transform` to embeddings."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float32
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from autodidact.catalog import unknown
from autodidact.data import Source, open_source
from autodidact.evaluation.embeddings import Embeddings, embedder
from autodidact.methods.method import Method
from autodidact.model import Model
from autodidact.recipes.names import demands, encoder_maker, encoder_names, find, make_method, options, statistics_of
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings, train

__all__ = ["SelfSupervisedTransformer"]


class SelfSupervisedTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Pretrain an encoder on unlabelled rows, and embed rows with it.

    Works in a `Pipeline`, in `GridSearchCV` and with `clone` like any other transformer. `X` is a table: a data frame
    of numbers, categories, dates and missing values, or a 2-D array of numbers with NaN where one is missing; or images
    (n, height, width) or (n, height, width, channels), uint8 or numbers in [0, 1]. ``y`` is never read.

    Parameters
    ----------
    method : name of a method or recipe (`autodidact methods` lists them), or ``file.py:Class``.
    encoder : name of an encoder, such as "small:tabular" or "timm:resnet18"; default the method's own.
    epochs : passes over the rows; unused where `steps` is given.
    steps : updates, instead of epochs.
    batch_size : rows in an update; all rows, where there are fewer.
    lr : peak learning rate of AdamW.
    weight_decay : of AdamW.
    random_state : int, RandomState or None: seed of weights, row order, masks and views.
    accelerator : "auto" takes a GPU where there is one; "cpu", "gpu".
    verbose : whether a progress line is shown.
    **method_arguments : options of the method, for example ``temperature=0.2``; parameters like the others for
        `get_params`, `set_params` and grid search.

    Attributes
    ----------
    model_ : the pretrained model; ``model_.save(folder)`` writes it for the command line.
    schema_ : how the columns of `X` were taken.
    n_features_in_ : number of columns of a table, or of values of an image.
    feature_names_in_ : names of the columns, where `X` was a data frame with text names.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from autodidact.sklearn import SelfSupervisedTransformer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(SelfSupervisedTransformer("t_jepa", epochs=50), LogisticRegression(max_iter=1000))
    >>> model.fit(X, y).score(X, y)  # doctest: +SKIP
    """

    def __init__(
        self,
        method: str = "t_jepa",
        *,
        encoder: str | None = None,
        epochs: int = 100,
        steps: int | None = None,
        batch_size: int = 256,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        random_state: Any = None,
        accelerator: str = "auto",
        verbose: bool = False,
        **method_arguments: Any,
    ) -> None:
        self.method = method
        self.encoder = encoder
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.accelerator = accelerator
        self.verbose = verbose
        for name, value in method_arguments.items():
            setattr(self, name, value)

    @property
    def _method_arguments(self) -> dict[str, Any]:
        """Options of the method: what was set under a name that is neither the estimator's own nor a fitted one."""
        own = super().get_params(deep=False)
        return {k: v for k, v in vars(self).items() if k not in own and not k.startswith("_") and not k.endswith("_")}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters by name, the method's among them."""
        return {**super().get_params(deep=deep), **self._method_arguments}

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a name that is not the estimator's own is an option of the method, which `fit` checks."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> Self:
        """Pretrain on the rows of `X`."""
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        source = self._source(X, reset=True)
        cls, card = find(self.method)
        for name in self._method_arguments:
            if name not in (valid := options(cls)):
                raise unknown(
                    f"parameter (of the estimator or of {self.method})", name, [*super().get_params(), *valid]
                )
        asked = demands(cls, card, self._method_arguments)
        asked.check(source, self.method)
        settings = Settings(
            epochs=None if self.steps else self.epochs,
            steps=self.steps,
            batch_size=min(self.batch_size, len(source)),
            lr=self.lr,
            weight_decay=self.weight_decay,
            accelerator=self.accelerator,  # type: ignore[arg-type]
            devices=1,
            seed=seed,
        )
        names = encoder_names(self.encoder, asked.slots, asked.encoder)
        maker = encoder_maker(names, source, seed, {"statistics": statistics_of(source)})
        given = self._method_arguments
        if issubclass(cls, Method):
            made = make_method(cls, maker, given, source, seed)
            model: Any = train(made, source, settings, quiet=not self.verbose, title=self.method)
        else:
            with tempfile.TemporaryDirectory() as folder:
                site = Site(source, maker, settings, Path(folder), quiet=not self.verbose)
                model = Run(cls(**given).stages(site), Path(folder)).result()
        if not isinstance(model, Model) or "embed" not in model.abilities:
            raise ValueError(f"'{self.method}' keeps nothing that embeds rows")
        self.model_, self.schema_ = model, source.schema
        self._n_features_out = self._embed(source.at(np.arange(1))).shape[1]
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "n d"]:
        """Embeddings of the rows of `X`."""
        check_is_fitted(self, "model_")
        return self._embed(self._source(X, reset=False))

    def _embed(self, source: Source) -> Float32[np.ndarray, "n d"]:
        rows = np.arange(len(source))
        return Embeddings(embedder(self.model_), source, quiet=not self.verbose).at(rows)

    def _source(self, X: Any, *, reset: bool) -> Source:
        """The rows as a source, checked against what was fitted."""
        like = None if reset else self.schema_
        if not hasattr(X, "iloc"):
            X = self._array(X, reset=reset)
            return open_source(_mixed(X) if X.dtype.kind in "OUS" else X, like=like)
        if hasattr(self, "_image_shape") and not reset:
            raise ValueError(f"X is a table, this transformer was fitted on {self._fitted_on()}")
        validate_data(self, X, skip_check_array=True, reset=reset)
        if 0 in X.shape:
            raise ValueError(
                f"Found array with {X.shape[0]} sample(s) and {X.shape[1]} feature(s); at least 1 is required"
            )
        return open_source(X, like=like)

    def _array(self, X: Any, *, reset: bool) -> np.ndarray[Any, Any]:
        """A checked array: 2-D of numbers or of mixed values, or images."""
        shape = getattr(X, "shape", ())
        if len(shape) in (3, 4):
            X = check_array(X, allow_nd=True, dtype=None, ensure_all_finite=True)
            if reset:
                self.n_features_in_, self._image_shape = int(np.prod(X.shape[1:])), X.shape[1:]
            elif X.shape[1:] != getattr(self, "_image_shape", None):
                raise ValueError(f"images have shape {X.shape[1:]}, this transformer was fitted on {self._fitted_on()}")
            return X
        if not reset and hasattr(self, "_image_shape"):
            raise ValueError(f"X has shape {shape}, this transformer was fitted on {self._fitted_on()}")
        if reset and hasattr(self, "_image_shape"):
            del self._image_shape
        mixed = isinstance(X, np.ndarray) and X.dtype.kind == "O" and not _numeric(X)
        return validate_data(
            self, X, reset=reset, dtype=None if mixed else "numeric", ensure_all_finite=not mixed and "allow-nan"
        )

    def _fitted_on(self) -> str:
        return f"images of shape {self._image_shape}" if hasattr(self, "_image_shape") else "a table"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _numeric(X: np.ndarray[Any, Any]) -> bool:
    """Whether an array of objects holds numbers only."""
    return all(isinstance(value, int | float | np.number) or value is None for value in X.ravel())


def _mixed(X: np.ndarray[Any, Any]) -> Any:
    """An array of mixed values as a data frame, each column with the type of its own values."""
    import pandas as pd

    return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]).infer_objects()
