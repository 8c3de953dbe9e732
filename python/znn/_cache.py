"""A model in the Hub's cache, changed from plain to compressed and back in one step.

The cache keeps a repository as blobs/NAME (a file's content, named by its digest), snapshots/COMMIT/FILE (symbolic
links to blobs) and refs/BRANCH (a commit). Blobs that huggingface_hub shares between repositories are links themselves.

A change is prepared beside them, in .znn: the new blobs, and a new tree of snapshots. Then the new blobs are moved to
blobs/, the two trees change places by one system call, and blobs that no snapshot names any longer are removed. A run
that is killed leaves one tree or the other whole, and in .znn the list of blobs of which some are not needed; the next
run removes those. Downloads are kept out by the cache's own locks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from . import _models

WORK = ".znn"
_JOURNAL = "journal.json"


class Busy(RuntimeError):
    """Somebody else is changing the model: a download, or another run."""


def blob_name(data: bytes) -> str:
    """The name of a small file's blob: what git calls its content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _content_matches(path: str | os.PathLike[str], name: str) -> bool:
    """False if the blob's name is a digest, and not that of the content."""
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return _models.file_digest(path) == name
    if re.fullmatch(r"[0-9a-f]{40}", name):
        return blob_name(Path(path).read_bytes()) == name
    return True


def exchange(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> None:
    """Let two folders of one file system change places, in one step where the system has a call for it."""
    if sys.platform.startswith("linux"):
        call, flag = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None), 2  # RENAME_EXCHANGE
        arguments = (-100, os.fsencode(first), -100, os.fsencode(second), flag)  # AT_FDCWD
    else:
        call, flag = getattr(ctypes.CDLL(None, use_errno=True), "renamex_np", None), 2  # RENAME_SWAP
        arguments = (os.fsencode(first), os.fsencode(second), flag)
    if call is not None:
        if call(*arguments) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), str(first))
    # Killed between the first two of these, recover() puts `first` back.
    aside = Path(f"{second}.aside")
    os.rename(first, aside)
    os.rename(second, first)
    os.rename(aside, second)


def _entries(tree: Path) -> dict[Path, str | None]:
    """{relative path: target of the link, or None for a file} of all that is in a tree of snapshots."""
    found: dict[Path, str | None] = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            found[path.relative_to(tree)] = os.readlink(path) if path.is_symlink() else None
    return found


def _sync(path: str | os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class CachedModel:
    """The folder of one model's repository in a cache."""

    def __init__(self, name: str, cache_dir: str | os.PathLike[str] | None = None) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self.name = name
        self.cache = Path(cache_dir or constants.HF_HUB_CACHE)
        self.folder = self.cache / repo_folder_name(repo_id=name, repo_type="model")
        self.blobs, self.tree, self.work = self.folder / "blobs", self.folder / "snapshots", self.folder / WORK
        if not self.tree.is_dir() and not self.work.is_dir():
            raise FileNotFoundError(f"{name}: not in the cache at {self.cache}")

    def snapshots(self) -> list[Path]:
        return sorted(path for path in self.tree.glob("*") if path.is_dir())

    # ---- Locks ----

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold every lock that a download of this model's files could want; raise Busy if one is taken."""
        from filelock import FileLock, Timeout

        folder = self.cache / ".locks" / self.folder.name
        folder.mkdir(parents=True, exist_ok=True)
        names = {os.path.basename(target) for target in _entries(self.tree).values() if target}
        names |= {path.stem for path in folder.glob("*.lock")}
        with contextlib.ExitStack() as stack:
            for name in ("znn", *sorted(names - {"znn"})):
                try:
                    stack.enter_context(FileLock(folder / f"{name}.lock", mode=0o664).acquire(timeout=0))
                except Timeout:
                    what = "another znn-hub is changing it" if name == "znn" else "a download is under way"
                    raise Busy(f"{self.name}: {what} ({folder / name}.lock is held)") from None
            self._recover()
            yield

    # ---- The step, and what a killed run leaves ----

    def _remove_unreferenced(self, names: Iterable[str]) -> None:
        from huggingface_hub import DeleteCacheStrategy

        kept = {os.path.basename(target) for target in _entries(self.tree).values() if target}
        # As huggingface_hub removes blobs, so that those shared between repositories are treated as it wants.
        values: dict[str, Any] = {
            "blobs": frozenset(self.blobs / name for name in set(names) - kept if os.path.lexists(self.blobs / name)),
            "expected_freed_size": 0,
            "cache_dir": self.cache,
        }
        fields = DeleteCacheStrategy.__dataclass_fields__
        DeleteCacheStrategy(**{field: values.get(field, frozenset()) for field in fields}).execute()

    def _adopt(self, old_tree: Path, removed: Collection[str]) -> None:
        """Bring over what a download put into the old tree after the new one was made."""
        here = _entries(self.tree)
        for path in _entries(old_tree):
            if path not in here and "/".join(path.parts[1:]) not in removed:
                (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
                os.rename(old_tree / path, self.tree / path)

    def _recover(self) -> None:
        """Finish, or take back, what a killed run has begun."""
        if not self.work.is_dir():
            return
        aside = self.work / "snapshots.aside"
        if aside.is_dir():
            if self.tree.is_dir():
                os.rename(aside, self.work / "snapshots")
            else:
                os.rename(aside, self.tree)
        try:
            journal = json.loads((self.work / _JOURNAL).read_text())
        except (OSError, ValueError):
            journal = None  # killed before anything outside .znn was touched
        if journal:
            self._finish(journal)
        shutil.rmtree(self.work)

    def _finish(self, journal: dict[str, Any]) -> None:
        done = (self.tree / journal["commit"] / _models.MANIFEST).is_file() == journal["compressed"]
        if done and (self.work / "snapshots").is_dir():
            self._adopt(self.work / "snapshots", journal["removed"])
        self._remove_unreferenced(journal["blobs"])

    def _replace(
        self, changes: dict[str, dict[str, tuple[str, Path | None]]], removed: Collection[str], compressed: bool
    ) -> None:
        """Let snapshots name other blobs.

        changes: {commit: {file: (blob's name, its new content or None if the blob is there)}}.
        removed: names of files that the changed snapshots lose. compressed: what they are afterwards.
        """
        before, new = _entries(self.tree), self.work / "snapshots"
        old_blobs = set()
        for path, target in before.items():
            commit, name = path.parts[0], "/".join(path.parts[1:])
            if commit in changes and (name in changes[commit] or name in removed):
                if target is not None:  # a file in a link's place has no blob
                    old_blobs.add(os.path.basename(target))
                continue
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            if target is None:
                os.link(self.tree / path, new / path)
            else:
                os.symlink(target, new / path)
        for folder in self.snapshots():
            (new / folder.name).mkdir(parents=True, exist_ok=True)
        for commit, files in changes.items():
            for name, (blob, _) in files.items():
                os.symlink(os.path.join("..", "..", "blobs", blob), new / commit / name)

        contents = {blob: path for files in changes.values() for blob, path in files.values() if path is not None}
        journal = {
            "commit": next(iter(changes)),
            "compressed": compressed,
            "removed": sorted(removed),
            "blobs": sorted(old_blobs | set(contents)),
        }
        part = self.work / "journal.part"
        part.write_text(json.dumps(journal))
        for path in (part, *contents.values()):
            _sync(path)
        os.rename(part, self.work / _JOURNAL)
        for blob, path in contents.items():
            os.rename(path, self.blobs / blob)
        _sync(self.blobs)
        if _entries(self.tree) != before:
            raise Busy(f"{self.name}: a download changed it meanwhile; nothing was changed, run again")
        exchange(self.tree, new)
        _sync(self.folder)
        self._finish(journal)

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        self.work.mkdir()
        try:
            yield
        finally:
            # After an error, this takes back what was begun; after success, only .znn itself is left to remove.
            self._recover()

    # ---- What a user asks for ----

    def plain_snapshots(self) -> tuple[list[Path], list[str]]:
        """([folders that can be compressed], [why others cannot])."""
        can: list[Path] = []
        why: list[str] = []
        for folder in self.snapshots():
            if _models.is_compressed(folder):
                continue
            try:
                _models.weight_files(folder)
                can.append(folder)
            except _models.NotCompressible as error:
                why.append(str(error))
        return can, why

    def compressed_snapshots(self) -> list[Path]:
        return [folder for folder in self.snapshots() if _models.is_compressed(folder)]

    def size(self) -> int:
        """Bytes of all blobs that snapshots name, and of files that are no links."""
        files = {os.path.realpath(self.tree / path) for path in _entries(self.tree)}
        return sum(os.path.getsize(path) for path in files if os.path.exists(path))

    def _link_targets(self, folder: Path, names: Iterable[str]) -> dict[str, str]:
        targets = {name: os.readlink(folder / name) for name in names if (folder / name).is_symlink()}
        for name in names:
            if name not in targets or Path(os.path.abspath(folder / targets[name])).parent != self.blobs.absolute():
                raise _models.NotCompressible(
                    f"{folder / name}: no link to a blob; caches without links stay as they are"
                )
        return {name: os.path.basename(target) for name, target in targets.items()}

    def _named(self, path: Path, large: bool) -> str:
        return _models.file_digest(path) if large else blob_name(path.read_bytes())

    def compress(
        self, level: int = 3, threads: int = 0, advance: Callable[[int], object] | None = None
    ) -> int:
        """Compress all snapshots that can be. Returns the number of them; raises NotCompressible if there is none."""
        with self.locked():
            folders, why = self.plain_snapshots()
            if not folders:
                if self.compressed_snapshots():
                    return 0
                raise _models.NotCompressible("; ".join(why) or f"{self.name}: no snapshot")
            with self._working():
                changes: dict[str, dict[str, tuple[str, Path | None]]] = {}
                done: dict[Path, Path] = {}
                for folder in folders:
                    weights, indexes = _models.weight_files(folder)
                    blobs = self._link_targets(folder, [*weights, *indexes, _models.CONFIG])
                    for name, blob in blobs.items():
                        if not _content_matches(folder / name, blob):
                            raise _models.NotCompressible(
                                f"{folder / name}: damaged: its blob's name is not its digest"
                            )
                    out = self.work / "files" / folder.name
                    out.mkdir(parents=True)
                    names = _models.compress_into(
                        folder, out, level=level, threads=threads, advance=advance, done=done, blobs=blobs
                    )
                    changes[folder.name] = {
                        name: (self._named(out / name, name in weights), out / name) for name in names
                    }
                self._replace(changes, (), True)
            return len(folders)

    def decompress(self, threads: int = 0, advance: Callable[[int], object] | None = None) -> int:
        """Give all compressed snapshots their original blobs back. Returns the number of snapshots."""
        with self.locked():
            folders = self.compressed_snapshots()
            if not folders:
                return 0
            with self._working():
                changes: dict[str, dict[str, tuple[str, Path | None]]] = {}
                done: dict[Path, Path] = {}
                for folder in folders:
                    out = self.work / "files" / folder.name
                    out.mkdir(parents=True)
                    records = _models.read_manifest(folder)
                    _models.restore_into(folder, out, threads=threads, advance=advance, done=done)
                    changes[folder.name] = {}
                    for name, record in records.items():
                        blob = record.get("blob")
                        if (
                            not isinstance(blob, str)
                            or not re.fullmatch(r"[\w.-]{1,200}", blob)
                            or blob.startswith(".")
                        ):
                            raise _models.NotCompressible(f"{folder / _models.MANIFEST}: no name of {name}'s blob")
                        if not _content_matches(out / name, blob):
                            raise _models.NotCompressible(f"{folder / name}: is not what its original blob's name says")
                        there = os.path.exists(self.blobs / blob) and _content_matches(self.blobs / blob, blob)
                        changes[folder.name][name] = (blob, None if there else out / name)
                self._replace(changes, (_models.MANIFEST,), False)
            return len(folders)

    def verify(self, threads: int = 0, advance: Callable[[int], object] | None = None) -> int:
        """Read everything and compare it with its digests. Returns the number of compressed snapshots."""
        with self.locked():
            folders = self.compressed_snapshots()
            for folder in folders:
                _models.verify_model(folder, threads=threads, advance=advance)
            for path, target in _entries(self.tree).items():
                if target and not _content_matches(self.tree / path, os.path.basename(target)):
                    raise _models.NotCompressible(f"{self.tree / path}: damaged: its blob's name is not its digest")
            return len(folders)
