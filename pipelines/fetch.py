"""Fetch a public data set: download (resumed where it broke off), checksum, unpack."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from medseg_nca.datasets.decathlon import RemoteDataSet, find_source
from medseg_nca.errors import DownloadError, OutputError
from medseg_nca.io.atomic import atomic_folder
from medseg_nca.job import Job
from medseg_nca.pipelines.download import download

CHUNK = 2**20
# Files that macOS adds to archives.
LITTER = ("._", ".DS_Store")
LISTING = "dataset.json"

log = logging.getLogger(__name__)


def run(
    name: str,
    out: Path,
    source: str | None = None,
    *,
    verify: bool = True,
    keep: bool = False,
    job: Job | None = None,
) -> Path:
    """Fetch one of the decathlon's tasks into ``out/<task>``.

    What is already there is left alone. A download that broke off goes on where it stopped.

    Args:
        name: of the task, see :func:`medseg_nca.datasets.decathlon.find_source`.
        out: the folder that holds data sets.
        source: a URL or a file to take the archive from instead of the public place.
        verify: compare the archive's checksum; a mirror that packed the task anew needs False.
        keep: keep a downloaded archive beside the data set.
        job: told how far it is, under the phases "downloading", "verifying" and "unpacking", in
            bytes.

    Returns:
        The folder of the data set.

    Raises:
        DataError: for an unknown name.
        DownloadError: if the archive cannot be reached, is damaged or is another one.
        OutputError: if there is no room or no permission.
        Interrupted: if the job was cancelled.
    """
    found = find_source(name)
    target = out / found.name
    if (target / LISTING).is_file():
        log.info("%s is already there.", target)
        return target
    if target.exists():
        raise OutputError(
            f"{target}: is in the way and holds no {LISTING}.", hint="Move it or remove it."
        )
    job = job or Job()
    with _archive(found, out, source, keep, job) as archive:
        if verify:
            _verify(archive, found, job, downloaded=not _is_file(source))
        unpack(archive, target, job)
    return target


@contextmanager
def _archive(
    found: RemoteDataSet, out: Path, source: str | None, keep: bool, job: Job
) -> Iterator[Path]:
    """The archive as a local file; a downloaded one is removed when it has been unpacked."""
    if source is not None and _is_file(source):
        path = Path(source)
        if not path.is_file():
            raise DownloadError(
                f"{source}: there is no such file.", hint=f"The archive is at {found.url}."
            )
        yield path
        return
    path = out / f"{found.name}.tar"
    if not path.is_file():
        download(source or found.url, path, job)
    yield path
    if not keep:
        path.unlink(missing_ok=True)


def _is_file(source: str | None) -> bool:
    return source is not None and "://" not in source


def _verify(archive: Path, found: RemoteDataSet, job: Job, *, downloaded: bool) -> None:
    size = archive.stat().st_size
    content = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            content.update(chunk)
            job.report("verifying", stream.tell(), size, unit="bytes")
    if content.hexdigest() == found.md5:
        return
    if downloaded:
        archive.unlink()
    raise DownloadError(
        f"{archive}: the checksum is {content.hexdigest()}, {found.md5} is expected: the archive "
        f"is damaged or another one{' and has been removed' if downloaded else ''}.",
        hint="Fetch it again; a mirror that packed the data anew needs --no-checksum.",
    )


def unpack(archive: Path, target: Path, job: Job) -> None:
    """Unpack the one folder of a tar archive as ``target``, whole or not at all.

    Only plain files and folders that stay inside are taken; anything else is refused.

    Raises:
        DownloadError: if it is not such an archive.
        OutputError: if there is no room or no permission.
    """
    try:
        with tarfile.open(archive, "r:*") as tar, atomic_folder(target) as folder:
            members = [member for member in tar if not _litter(member.name)]
            _check_room(folder, sum(member.size for member in members))
            top = _top(members)
            total, done = sum(member.size for member in members), 0
            for member in members:
                _unpack_member(tar, member, folder, top, archive)
                done += member.size
                job.report("unpacking", done, total, unit="bytes")
            if not (folder / LISTING).is_file():
                raise DownloadError(f"{archive}: holds no {LISTING}; it is another data set.")
    except (tarfile.TarError, EOFError) as error:
        raise DownloadError(
            f"{archive}: is not a complete tar archive ({error}).", hint="Fetch it again."
        ) from error


def _litter(name: str) -> bool:
    return PurePosixPath(name).name.startswith(LITTER)


def _top(members: list[tarfile.TarInfo]) -> str | None:
    """The folder that everything lies in, None if there is more than one."""
    tops = {_parts(member)[0] for member in members if _parts(member)}
    return tops.pop() if len(tops) == 1 else None


def _parts(member: tarfile.TarInfo) -> list[str]:
    return [part for part in PurePosixPath(member.name).parts if part != "."]


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, top: str | None, archive: Path
) -> None:
    """Take the outer folder off the name, and write the member if it is harmless."""
    parts = _parts(member)
    inner = "/".join(parts[1:] if parts and parts[0] == top else parts)
    if not inner:
        return
    try:
        if not (member.isfile() or member.isdir()):
            raise tarfile.SpecialFileError(member)
        safe = tarfile.data_filter(member.replace(name=inner, deep=False), str(folder))
    except tarfile.FilterError as error:
        raise DownloadError(
            f"{archive}: holds {member.name!r}, which is no plain file inside its folder.",
            hint="Do not use this archive; fetch it from the public place.",
        ) from error
    destination = folder / safe.name
    if member.isdir():
        destination.mkdir(parents=True, exist_ok=True)
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    content: IO[bytes] | None = tar.extractfile(member)
    if content is not None:
        with content, destination.open("wb") as stream:
            shutil.copyfileobj(content, stream, CHUNK)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder.parent}: unpacking needs {needed / 1e9:.1f} GB; {free / 1e9:.1f} are free.",
            hint="Free some space or choose another folder.",
        )
