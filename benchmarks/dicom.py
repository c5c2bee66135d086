"""Processor time and memory of ``dicom scan`` and ``dicom import``, beside plain pydicom.

    python benchmarks/dicom.py [--slices 600] [--size 512] [--repeats 3] [--json]

A synthetic CT is written first: each slice has some 210 elements, private ones, nested sequences
and a private header of 64 kB among them, as scanners write them. ``scan`` is compared with
``pydicom.dcmread(stop_before_pixels=True)`` and reading the tags that a scan reads; each is a
process of its own, in turns, and the least time of the repeats counts. Starting Python is left out
of the scans, and in the seconds of the import; memory is what rises above the loaded program.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

CHILD = "--child"
# Read by a scan beside `instances.TAGS`: places, pixels, and what tells volumes apart.
OF_PLANES = (
    "SOPInstanceUID", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber",
    "RescaleSlope", "RescaleIntercept", "PhotometricInterpretation", "AcquisitionNumber",
    "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime",
    "TemporalPositionIdentifier",
)  # fmt: skip


def codes(count: int) -> Sequence:
    """Items of a coded concept."""
    items = []
    for number in range(count):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = f"P{number}", "99LOCAL"
        item.CodeMeaning = "CT of the abdomen"
        items.append(item)
    return Sequence(items)


def references(count: int, series: str) -> Sequence:
    """Items that refer to other images, each with a purpose."""
    items = []
    for number in range(count):
        item = Dataset()
        item.ReferencedSOPClassUID = CTImageStorage
        item.ReferencedSOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
        item.PurposeOfReferenceCodeSequence = codes(1)
        items.append(item)
    return Sequence(items)


def rich_header(series: str) -> Dataset:
    """What the slices of a CT share."""
    header = Dataset()
    texts = {
        "SpecificCharacterSet": "ISO_IR 192", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceCreationDate": "20240102", "InstanceCreationTime": "101112.131415",
        "SOPClassUID": CTImageStorage, "StudyDate": "20240102", "SeriesDate": "20240102",
        "AcquisitionDate": "20240102", "ContentDate": "20240102", "StudyTime": "100000.000000",
        "SeriesTime": "100500.250000", "AccessionNumber": "A0815", "Modality": "CT",
        "Manufacturer": "Nobody Medical", "InstitutionName": "Example Hospital",
        "InstitutionAddress": "Example Street 1, Example City", "StationName": "CT0001",
        "ReferringPhysicianName": "Nobody^Nora", "StudyDescription": "Abdomen^Routine",
        "SeriesDescription": "Abdomen 1.0 B30f", "InstitutionalDepartmentName": "Radiology",
        "PerformingPhysicianName": "Nobody^Nils", "OperatorsName": "Nobody^Nina",
        "ManufacturerModelName": "Example 64", "PatientName": "Synthetic^Example",
        "PatientID": "SYNTHETIC", "PatientBirthDate": "19700101", "PatientSex": "O",
        "PatientAge": "054Y", "PatientSize": "1.75", "PatientWeight": "75",
        "PatientComments": "made by a benchmark", "BodyPartExamined": "ABDOMEN", "KVP": "120",
        "ScanOptions": "HELICAL MODE", "SliceThickness": "1", "DataCollectionDiameter": "500",
        "DeviceSerialNumber": "12345", "SoftwareVersions": "syn 1.0", "ProtocolName": "AbdRoutine",
        "ReconstructionDiameter": "380", "DistanceSourceToDetector": "1040",
        "DistanceSourceToPatient": "570", "GantryDetectorTilt": "0", "TableHeight": "146.5",
        "RotationDirection": "CW", "ExposureTime": "500", "XRayTubeCurrent": "305",
        "Exposure": "152", "FilterType": "FLAT", "GeneratorPower": "36", "FocalSpots": "1.2",
        "DateOfLastCalibration": "20240101", "TimeOfLastCalibration": "060000",
        "ConvolutionKernel": "B30f", "PatientPosition": "FFS", "RevolutionTime": 0.5,
        "SingleCollimationWidth": 0.6, "TotalCollimationWidth": 38.4, "SpiralPitchFactor": 0.9,
        "ExposureModulationType": "XYZ_EC", "EstimatedDoseSaving": 12.5, "CTDIvol": 7.25,
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": series, "StudyID": "1", "SeriesNumber": "4", "AcquisitionNumber": "2",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame"]),
        "PositionReferenceIndicator": "SN", "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "PixelSpacing": [0.742, 0.742],
        "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
        "BurnedInAnnotation": "NO", "WindowCenter": [40, 300], "WindowWidth": [400, 1500],
        "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU",
        "WindowCenterWidthExplanation": ["WINDOW1", "WINDOW2"], "LossyImageCompression": "00",
        "RequestingPhysician": "Nobody^Nele", "RequestingService": "Surgery",
        "RequestedProcedureDescription": "CT Abdomen", "PerformedStationName": "CT0001",
        "PerformedProcedureStepStartDate": "20240102", "PerformedProcedureStepID": "P4711",
        "PerformedProcedureStepDescription": "Abdomen", "RequestedProcedureID": "R4711",
    }  # fmt: skip
    for keyword, value in texts.items():
        setattr(header, keyword, value)
    header.ReferencedStudySequence = references(1, "study")
    header.ReferencedImageSequence = references(3, "localizer")
    header.SourceImageSequence = references(2, "source")
    header.ProcedureCodeSequence = codes(1)
    header.CTDIPhantomTypeCodeSequence = codes(1)
    request = Dataset()
    request.ScheduledProcedureStepDescription, request.RequestedProcedureID = "Abdomen", "R4711"
    request.ScheduledProtocolCodeSequence = codes(2)
    header.RequestAttributesSequence = Sequence([request])
    add_private(header)
    # Most scanners write sequences without a length, so that a reader has to look for their ends.
    for element in header.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    return header


def add_private(header: Dataset) -> None:
    """Blocks of numbers and texts, one of nested sequences, and a header of 64 kB in one value."""
    for group, creator in ((0x0019, "NOBODY CT ACQ"), (0x0021, "NOBODY CT REC")):
        block = header.private_block(group, creator, create=True)
        for number in range(50):
            vr = ("DS", "LO", "IS", "FD", "US")[number % 5]
            block.add_new(number, vr, str(number) if vr == "LO" else number)
    block = header.private_block(0x0029, "NOBODY CSA", create=True)
    block.add_new(0x10, "OB", bytes(range(256)) * 256)
    block.add_new(0x20, "SQ", references(4, "private"))


def write_series(folder: Path, slices: int, size: int) -> int:
    """Write a body with noise in air, one file a slice.

    Returns:
        The bytes of all files.
    """
    series = generate_uid(entropy_srcs=["series"])
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    inside = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    dataset = rich_header(series)
    for number in range(slices):
        plane = np.where(inside, 1064 + 60 * np.sin(6 * x + number / 40) * np.cos(5 * y), 24)
        plane = plane + random.normal(0, 10, plane.shape)
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
        dataset.InstanceNumber, dataset.SliceLocation = number + 1, str(-200.0 + number)
        dataset.ImagePositionPatient = [-190, -190, -200.0 + number]
        dataset.AcquisitionTime = dataset.ContentTime = f"10{number // 60:02}{number % 60:02}.5"
        dataset.PixelData = plane.clip(0, 4095).astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)
    return sum(path.stat().st_size for path in folder.iterdir())


def read_plainly(folder: Path) -> dict[str, Any]:
    """Processor time of plain pydicom in this process."""
    import pydicom

    from medseg_nca.io.dicom.series.instances import TAGS

    tags = (*TAGS, *OF_PLANES)
    paths = sorted(folder.iterdir())
    pydicom.dcmread(paths[0])
    busy = time.process_time()
    for path in paths:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for tag in tags:
            header.get(tag)
    return {"cpu_seconds": time.process_time() - busy}


def scan_folder(folder: Path) -> dict[str, Any]:
    """Processor time of a scan in this process."""
    from medseg_nca.io.dicom.scan import read_files, scan

    read_files(sorted(folder.iterdir())[:1])
    busy = time.process_time()
    found = scan(folder)
    busy = time.process_time() - busy
    assert len(found.series[0].stacks) == 1, found.series[0].problems
    return {"cpu_seconds": busy}


def import_folder(folder: Path, out: Path) -> dict[str, Any]:
    """Seconds, processor time and memory (10^6 bytes) of an import in this process."""
    from medseg_nca.benchmark.memory import PeakMemory
    from medseg_nca.pipelines import dicom_import

    memory, started, busy = PeakMemory(), time.perf_counter(), time.process_time()
    report = dicom_import.run(dicom_import.ImportRequest(folder, out))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    (record,) = report.records
    return {
        "seconds": seconds,
        "cpu_seconds": busy,
        "peak_mb": memory.megabytes(),
        "file_mb": (out / record.maps[0].image).stat().st_size / 1e6,
    }


def child(work: str, *paths: Path) -> dict[str, Any]:
    """Do one of the three in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, CHILD, work, *map(str, paths)],
        stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(folder: Path, slices: int, size: int, repeats: int) -> dict[str, Any]:
    """Write the series and measure all."""
    files = folder / "series"
    files.mkdir()
    megabytes = write_series(files, slices, size) / 1e6
    plain, scanned, imports = [], [], []
    for number in range(repeats):
        plain.append(child("plain", files)["cpu_seconds"])
        scanned.append(child("scan", files)["cpu_seconds"])
        out = folder / f"out-{number}"
        imports.append(child("import", files, out))
        shutil.rmtree(out)
    result = {
        "slices": slices,
        "size": size,
        "mb": round(megabytes),
        "pydicom_ms": round(1000 * min(plain) / slices, 3),
        "scan_ms": round(1000 * min(scanned) / slices, 3),
        "scan_ratio": round(min(scanned) / min(plain), 2),
    }
    for name in imports[0]:
        result[f"import_{name}"] = round(min(one[name] for one in imports), 1)
    return result


@click.command()
@click.option("--slices", default=600, show_default=True)
@click.option("--size", default=512, show_default=True, help="Rows and columns.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(slices: int, size: int, repeats: int, as_json: bool) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as text:
        row = measure(Path(text), slices, size, repeats)
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    for name, value in row.items():
        click.echo(f"{name:20} {value}")


if __name__ == "__main__":
    if CHILD in sys.argv[1:2]:
        work = {"plain": read_plainly, "scan": scan_folder, "import": import_folder}
        print(json.dumps(work[sys.argv[2]](*map(Path, sys.argv[3:]))))
    else:
        main()
