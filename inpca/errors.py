"""The errors a caller may want to tell apart, each with the exit code it has on the command line.

Every message names the argument (or the model, or the key), the rule, the value, and the cure.
"""


class InpcaError(Exception):
    """Base of every error that `inpca` raises on purpose."""

    exit_code = 1


class InputError(InpcaError, ValueError):
    """Bad input: an argument, a prediction, a query, a path that is no store."""

    exit_code = 3


class MissingExtraError(InputError, ImportError):
    """An optional package is not installed, or cannot be imported."""


class DamagedStoreError(InpcaError, RuntimeError):
    """What is on disk is missing, truncated or does not match its checksum."""

    exit_code = 4


class ResourceError(InpcaError, RuntimeError):
    """Memory, disk or device does not suffice, or another process holds the output."""

    exit_code = 5
