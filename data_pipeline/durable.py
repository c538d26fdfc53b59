"""Writing so that a reader sees the whole thing or nothing, also after a crash and beside other machines.

Everything is first written under a draft's name that no other process ever has (host, process, random part), flushed to
disk with its folder, and then renamed. Drafts of dead processes can be told and removed; those of another machine, of
another container, or of a process that still runs are never touched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import uuid
from pathlib import Path
from types import TracebackType

from data_pipeline.errors import UserError

MARK = ".draft-"


def write_durably(file: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `file`: after a crash the file is either the old or the new one.

    Raises `UserError` naming `file` where the disk is full; nothing of the attempt is left then.
    """
    draft = draft_of(file)
    with FullDiskNamed(file):
        try:
            with draft.open("wb") as sink:
                sink.write(content.encode() if isinstance(content, str) else content)
                sink.flush()
                os.fsync(sink.fileno())
            draft.replace(file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    sync_folder(file.parent)


def publish(draft: Path, folder: Path) -> None:
    """Flush all of the folder `draft` to disk and rename it to `folder`, which must not exist.

    Raises `UserError` where `folder` appeared meanwhile, or the disk is full.
    """
    with FullDiskNamed(folder):
        fsync_tree(draft)
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise UserError(f"{folder} was written by another process meanwhile; choose another name") from error
        raise
    sync_folder(folder.parent)


def publish_file(draft: Path, file: Path) -> None:
    """Flush the file `draft` to disk and rename it to `file`, in whose place it comes."""
    with FullDiskNamed(file):
        _flush(draft)
        draft.replace(file)
    sync_folder(file.parent)


def draft_of(path: Path) -> Path:
    """A hidden sibling of `path` whose name tells this process and is never used twice."""
    # The last two parts have no dash, a host's name may have one.
    return path.with_name(f".{path.name}{MARK}{_here()}-{os.getpid()}-{uuid.uuid4().hex}")


def remove_dead_drafts(path: Path) -> None:
    """Remove drafts of `path` (files or folders) whose process ran on this machine and runs no more."""
    prefix = f".{path.name}{MARK}"
    for draft in path.parent.iterdir():
        if draft.name.startswith(prefix) and _is_dead(draft.name.removeprefix(prefix)):
            if draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below and including `folder` to disk."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            _flush(Path(parent, name))
        sync_folder(Path(parent))


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where its file system knows how."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have nothing to flush for a folder and say so.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


class FullDiskNamed:
    """Turn 'no space left' while writing `file` into a `UserError`."""

    def __init__(self, file: Path) -> None:
        """Remember the file."""
        self.file = file

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Name the full disk."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk is full while writing {self.file}; free space or choose another place"
            ) from error


def _here() -> str:
    """This machine, since it was started, and the container in it: where a process number means one process."""
    host, boot, space = socket.gethostname(), Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    # Other systems than Linux have neither, nor containers that would give a number twice.
    marks = [
        host,
        boot.read_text(encoding="utf-8") if boot.exists() else "",
        str(space.readlink()) if space.exists() else "",
    ]
    return f"{host}-{hashlib.sha256('/'.join(marks).encode()).hexdigest()[:12]}"


def _is_dead(owner: str) -> bool:
    here, _, rest = owner.rpartition("-")[0].rpartition("-")
    return here == _here() and rest.isdigit() and not _is_running(int(rest))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
