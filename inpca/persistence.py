"""File systems that stumble: try again a few times, then say which file, and the cure."""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from inpca.errors import ResourceError

Result = TypeVar("Result")

# What passes on a network file system or a loose cable; a full disk does not.
_PASSING = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE}
_PAUSES = (0.1, 0.5, 2.0)  # seconds

_KEPT = "then call again: what is finished is kept"
_PATH = "check the path"
_CURES = {
    errno.ENOSPC: f"free some space, {_KEPT}",
    errno.EDQUOT: f"free some of your quota, {_KEPT}",
    errno.EFBIG: f"raise the limit of file sizes (ulimit -f), {_KEPT}; or take a smaller tile_size",
    errno.EROFS: "make it writeable, or give another place",
    errno.EACCES: "change its permissions, or give another place",
    errno.EPERM: "change its permissions, or give another place",
    errno.EMFILE: f"raise the limit of open files (ulimit -n), {_KEPT}",
    errno.ENOENT: _PATH,
    errno.ENOTDIR: _PATH,
    errno.EISDIR: _PATH,
    errno.EEXIST: _PATH,
}
_log = logging.getLogger("inpca")


def persistently(action: Callable[[], Result]) -> Result:
    """The result of `action`; after an error that may pass it is tried again, three times.

    It must be safe to repeat. Each time is logged.
    """
    for pause in _PAUSES:
        try:
            return action()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            _log.warning("%s; trying again in %g s", error, pause)
            time.sleep(pause)
    return action()


@contextmanager
def naming_files(place: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of the operating system leave as `ResourceError`: the file, what, the cure.

    Parameters
    ----------
    place : named where the error does not say which file
    """
    try:
        yield
    except OSError as error:
        raise named(error, place) from error


def named(error: OSError, place: str | os.PathLike[str] = "") -> ResourceError:
    """What to raise instead of `error`: the file, what, the cure.

    Parameters
    ----------
    place : named where the error does not say which file
    """
    file = error.filename or os.fspath(place)
    where = f"{file}: " if file else ""
    # Without a file it may as well be the network.
    otherwise = f"see that the disk is well, {_KEPT}" if file else f"put that right, {_KEPT}"
    return ResourceError(
        f"{where}{error.strerror or error}; {_CURES.get(error.errno or 0, otherwise)}."
    )
