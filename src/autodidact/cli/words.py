"""What several verbs say of the same options."""

DATA = (
    "a folder of images (nested; class folders are labels), a CSV or Parquet table, .npy/.npz arrays, a saved Hugging "
    "Face dataset, a folder of IDX files, or a bundled set by name: digits, breast_cancer, wine, diabetes"
)
ENCODER = (
    "timm:NAME, hf:ID-or-folder, small:NAME, or SLOT=NAME once for each network of a method with several; default the "
    "method's own"
)
