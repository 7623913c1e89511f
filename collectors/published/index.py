"""Index tables of the archive: which models the rows of a distance matrix are."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from collectors.published.names import OF_A_CHECKPOINT, run_id, setting_name
from collectors.torch_files import load_torch
from inpca.errors import InputError
from inpca.opening import check_fits, open_regular, reading

_REFERENCES = ("true", "random", "geodesic")


def read_index(file: Path, *, allow_pickle: bool = False) -> pd.DataFrame:
    """An index table of the archive: one row for each model of a matrix, in its order.

    Raises
    ------
    InputError
        If the file cannot be read, or is no table.
    """
    if file.suffix == ".csv":
        with open_regular(file) as content, reading(file):
            check_fits(4 * os.fstat(content.fileno()).st_size, str(file), "check the file")
            return pd.read_csv(content)
    content = load_torch(file, allow_pickle=allow_pickle)
    if isinstance(content, tuple) and len(content) == 2:  # (rows of the whole, their table)
        content = content[1]
    if not isinstance(content, pd.DataFrame):
        raise InputError(f"{file} holds a {type(content).__name__} where a DataFrame is expected.")
    return content


def models_table(index: pd.DataFrame) -> pd.DataFrame:
    """An index table of the archive in the words of a models table.

    A run is what agrees in all columns but those that change within one (``t``, ``err``, …); its
    models are numbered in the order of the rows.

    Examples
    --------
    >>> index = pd.DataFrame({"seed": [1, 1], "m": ["fc", "fc"], "t": [0, 9], "err": [0.9, 0.5]})
    >>> models_table(index)[["step", "architecture", "train_error"]].loc["seed-1_m-fc/1"].tolist()
    [9, 'fc', 0.5]
    """
    settings = [str(name) for name in index.columns if name not in OF_A_CHECKPOINT]
    runs = [run_id(dict(zip(settings, row))) for row in zip(*(index[key] for key in settings))]
    table = pd.DataFrame({"run": runs})
    table["checkpoint"] = table.groupby("run").cumcount()
    architecture = index["m"].astype(str) if "m" in index else pd.Series("", index=index.index)
    is_reference = architecture.isin(_REFERENCES).to_numpy()
    table["kind"] = np.where(is_reference, "reference", "checkpoint")
    table["step"] = pd.to_numeric(index["t"]).to_numpy() if "t" in index else np.nan
    table["epoch"] = np.nan
    for key in settings:
        table[setting_name(key)] = index[key].to_numpy()
    for key, name in OF_A_CHECKPOINT.items():
        if key in index and key != "t":
            table[name] = index[key].to_numpy()
    table.index = pd.Index(table["run"] + "/" + table["checkpoint"].astype(str), name="model")
    return table
