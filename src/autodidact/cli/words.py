"""What several verbs say of the same options."""

DATA = (
    "a folder of images (nested; class folders are labels), a CSV, TSV or Parquet table or a folder of them, .npy or "
    ".npz arrays, IDX files or their folder, a saved Hugging Face dataset, hf:ID, hf-stream:ID, or a name: digits, "
    "breast_cancer, wine, diabetes, fashion_mnist"
)
ENCODER = (
    "timm:NAME, hf:ID-or-folder, small:NAME, or SLOT=NAME once for each network of a method with several; default the "
    "method's own"
)
