"""What several verbs say of the same options."""

DATA = (
    "a folder of images (nested; class folders are labels), a .txt file that names images one a line, a CSV, TSV or "
    "Parquet table or a folder of them, .npy or .npz arrays, IDX files or their folder, tar shards or their folder, "
    "shards:PLACE, an address as s3://..., a saved Hugging Face dataset, hf:ID, hf-stream:ID, or a name: digits, "
    "breast_cancer, wine, diabetes, fashion_mnist"
)
ENCODER = (
    "timm:NAME, hf:ID-or-folder, small:NAME, or SLOT=NAME once for each network of a method with several; default the "
    "method's own"
)
LABELS = (
    "where labels come from: a column of a table; of a folder of images 'first' or 'parent', or "
    "FILE[:FILE_COLUMN][:LABEL_COLUMN]; a key of an .npz; 'none' for none; default the class folders, or what the data "
    "calls its labels"
)
