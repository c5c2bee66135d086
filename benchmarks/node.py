"""How a DICOM node does: seconds from a series to its result, series an hour, and its memory.

    python benchmarks/node.py                         zoo:hippocampus, 35 x 51 x 35 voxels
    python benchmarks/node.py --json
    python benchmarks/node.py --instances 5000 --associations 10 --size 512

It starts `medseg-nca dicom-node` on a free port, with a folder and a storage provider of its own.

Latency: a series is sent over one association, and the time runs from the answer to its last
C-STORE until its SEG has arrived at the storage provider. The quiet time after which a series is
complete (--settle) is part of that, and is shown by itself.

Series an hour: --series of them are sent at once, and the time runs from the first to the last SEG.

Memory: --instances of --size x --size pixels, of as many series, come over --associations at the
same time; no rule takes them. Resident memory of the node's process is read ten times a second. The
associations call from several addresses, because one address may have only half of all.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SegmentationStorage,
    generate_uid,
)
from pynetdicom import AE, evt

NODE, SENDER, ARCHIVE = "NODE", "SENDER", "ARCHIVE"
MEGABYTE = 10**6
# Slices, rows, columns of a hippocampus of the Decathlon.
SHAPE = (35, 51, 35)
# Seconds between two looks at the memory.
PULSE = 0.1


@dataclass
class Storage:
    """A storage provider that notes when a SEG of which series came.

    Attributes:
        port: that it listens at.
        came: times of a monotonic clock by SeriesInstanceUID.
    """

    port: int = 0
    came: dict[str, float] = field(default_factory=dict)
    news: threading.Condition = field(default_factory=threading.Condition)

    def store(self, event: evt.Event) -> int:
        """Take an object."""
        now, of = time.monotonic(), event.dataset.ReferencedSeriesSequence[0]
        with self.news:
            self.came[str(of.SeriesInstanceUID)] = now
            self.news.notify_all()
        return 0x0000

    def wait(self, series: Sequence[str], seconds: float = 600) -> list[float]:
        """When the results of series came, which is waited for."""
        with self.news:
            if not self.news.wait_for(lambda: self.came.keys() >= set(series), seconds):
                raise click.ClickException(f"No result after {seconds:.0f} s.")
            return [self.came[one] for one in series]


@dataclass(frozen=True)
class Target:
    """A node that was started to be measured."""

    port: int
    process: psutil.Process
    storage: Storage

    def send(self, datasets: Sequence[Dataset], address: str = "127.0.0.1") -> float:
        """Send over one association; the time of the last answer."""
        ae = AE(SENDER)
        ae.add_requested_context(datasets[0].SOPClassUID, ExplicitVRLittleEndian)
        while True:
            peer = ae.associate(
                "127.0.0.1", self.port, ae_title=NODE, bind_address=(address, 0), max_pdu=2**17
            )
            if peer.is_established:
                break
            time.sleep(0.1)
        for dataset in datasets:
            status = peer.send_c_store(dataset).Status
            if status != 0:
                raise click.ClickException(f"The node answers {status:04X}H.")
        last = time.monotonic()
        peer.release()
        return last


@contextmanager
def storage() -> Iterator[Storage]:
    """Start a storage provider on a free port."""
    about, ae = Storage(), AE(ARCHIVE)
    ae.add_supported_context(SegmentationStorage)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, about.store)]
    )
    assert server is not None
    about.port = server.socket.getsockname()[1]
    try:
        yield about
    finally:
        server.shutdown()


@contextmanager
def running(model: str, settle: float) -> Iterator[Target]:
    """Start a node, and end it as an init system does."""
    with tempfile.TemporaryDirectory() as folder, storage() as archive:
        command = [
            sys.executable, "-m", "medseg_nca", "dicom-node", "--aet", NODE, "--port", "0",
            "--allow", f"{SENDER}@127.0.0.0/8", "--route", f"Modality=MR -> {model}",
            "--send-to", f"{ARCHIVE}@127.0.0.1:{archive.port}", "--spool", f"{folder}/node",
            "--settle", f"{settle}", "--queue", "1000", "--device", "cpu", "--reserve-gb", "0",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"port (\d+)", process.stdout.readline())
            if found is None:
                raise click.ClickException("The node did not start.")
            yield Target(int(found[1]), psutil.Process(process.pid), archive)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def series(shape: tuple[int, int, int], seed: int, modality: str = "MR") -> list[Dataset]:
    """The slices of a made-up series."""
    noise = np.random.default_rng(seed).normal(0, 80, shape)
    array = (noise + np.linspace(100, 900, shape[0])[:, None, None]).clip(0).astype(np.uint16)
    study, own, frame = (generate_uid() for _ in range(3))
    return [
        _slice(plane, number, modality, str(study), str(own), str(frame))
        for number, plane in enumerate(array)
    ]


def _slice(
    plane: np.ndarray[Any, Any], number: int, modality: str, study: str, own: str, frame: str
) -> Dataset:
    one = Dataset()
    one.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    texts = {
        "SOPInstanceUID": generate_uid(), "StudyInstanceUID": study, "SeriesInstanceUID": own,
        "FrameOfReferenceUID": frame, "Modality": modality, "PatientName": "Synthetic^Example",
        "PatientID": "SYNTHETIC", "PatientBirthDate": "", "PatientSex": "", "StudyDate": "20240102",
        "StudyTime": "100000", "StudyID": "1", "AccessionNumber": "", "ReferringPhysicianName": "",
        "SeriesNumber": 1, "InstanceNumber": number + 1, "Manufacturer": "Nobody Medical",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "ImagePositionPatient": [0, 0, number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1],
        "SliceThickness": 1, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
        "Rows": plane.shape[0], "Columns": plane.shape[1], "PixelData": plane.tobytes(),
    }  # fmt: skip
    for keyword, value in texts.items():
        setattr(one, keyword, value)
    return one


def latency(target: Target, repeats: int) -> list[float]:
    """Seconds from the answer to the last instance to the arrival of the SEG, for each series."""
    waited = []
    for number in range(-1, repeats):  # the first is to warm up
        datasets = series(SHAPE, number + 1)
        last = target.send(datasets)
        (came,) = target.storage.wait([str(datasets[0].SeriesInstanceUID)])
        if number >= 0:
            waited.append(came - last)
    return waited


def throughput(target: Target, count: int) -> float:
    """Series an hour, where many arrive at once."""
    many = [series(SHAPE, seed) for seed in range(count)]
    for datasets in many:
        target.send(datasets)
    came = target.storage.wait([str(datasets[0].SeriesInstanceUID) for datasets in many])
    return 3600 * (count - 1) / (max(came) - min(came))


@dataclass
class Memory:
    """Of the process of the node, 10^6 bytes, while many instances arrive.

    Attributes:
        before: resident.
        most: resident, in each tenth of the time.
        threads: the most of them.
        instances_per_second: that were taken.
    """

    before: float
    most: list[float]
    threads: int
    instances_per_second: float


def memory(target: Target, instances: int, associations: int, size: int) -> Memory:
    """Send many instances over several associations at the same time."""
    before, looks = target.process.memory_info().rss / MEGABYTE, list[tuple[float, int]]()
    ended, each = threading.Event(), instances // associations

    def send(number: int) -> None:
        """Made one after another: what they take is not the node's."""
        target.send(series((each, size, size), number, "CT"), f"127.0.0.{1 + number // 5}")

    def look() -> None:
        while not ended.wait(PULSE):
            rss = target.process.memory_info().rss / MEGABYTE
            looks.append((rss, target.process.num_threads()))

    begin = time.monotonic()
    watcher = threading.Thread(target=look)
    senders = [threading.Thread(target=send, args=(number,)) for number in range(associations)]
    for thread in (watcher, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    seconds = time.monotonic() - begin
    ended.set()
    watcher.join()
    parts = np.array_split([rss for rss, _ in looks], 10)
    return Memory(
        before, [round(float(part.max()), 1) for part in parts if len(part)],
        max(threads for _, threads in looks), each * associations / seconds,
    )  # fmt: skip


@click.command()
@click.option("--model", default="zoo:hippocampus", show_default=True)
@click.option("--settle", default=1.0, show_default=True, help="Of the node, in seconds.")
@click.option("--repeats", default=20, show_default=True, help="Series one after another.")
@click.option("--series", "count", default=30, show_default=True, help="Series at once.")
@click.option("--instances", default=1000, show_default=True)
@click.option("--associations", default=10, show_default=True, help="At a time, at most 16.")
@click.option("--size", default=256, show_default=True, help="Rows and columns of an instance.")
@click.option("--json", "as_json", is_flag=True)
def main(
    model: str, settle: float, repeats: int, count: int, instances: int, associations: int,
    size: int, as_json: bool,
) -> None:  # fmt: skip
    """Measure a node that is started for it."""
    load = os.getloadavg()[0]
    with running(model, settle) as target:
        waited = latency(target, repeats)
        an_hour = throughput(target, count)
        found = memory(target, instances, associations, size)
    tree = {
        "settle": settle, "latency": waited, "series_an_hour": an_hour, "memory": vars(found),
    }  # fmt: skip
    if as_json:
        print(json.dumps(tree))
        return
    print(f"load {load:.1f} on {os.cpu_count()} cores at the beginning")
    cuts = [statistics.median(waited), max(waited)]
    print(f"receive to result    median {cuts[0]:.2f} s, longest {cuts[1]:.2f} s of {repeats}; "
          f"{settle:g} s of it are the quiet time")  # fmt: skip
    print(f"series an hour       {an_hour:.0f} of {'x'.join(map(str, SHAPE))} voxels")
    print(f"{instances} instances of {size}x{size} over {associations} associations: "
          f"{found.instances_per_second:.0f} a second")  # fmt: skip
    print(f"memory               before {found.before:.0f} MB, most in each tenth of the time "
          f"{', '.join(map('{:.0f}'.format, found.most))} MB; {found.threads} threads")  # fmt: skip


if __name__ == "__main__":
    main()
