"""What a collector says where the package it needs is not installed."""

import subprocess
import sys

from inpca.errors import InputError, MissingExtraError


def test_torch_collector__without_torch_names_the_cure():
    code = """
import sys
sys.modules["torch"] = None
from inpca.errors import MissingExtraError
try:
    import collectors.torch
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'inpca[torch]'" in done.stdout


def test_missing_extra__is_bad_input_and_an_import_error():
    assert issubclass(MissingExtraError, InputError)
    assert issubclass(MissingExtraError, ImportError)
    assert MissingExtraError.exit_code == 3
