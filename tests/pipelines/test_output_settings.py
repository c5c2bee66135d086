"""What a prediction is to be written as is checked before it is begun."""

from __future__ import annotations

import pytest

from medseg_nca.cases.predict_case import OutputSettings
from medseg_nca.errors import OutputError


def test_a_kind_of_dicom_seg_that_does_not_exist() -> None:
    with pytest.raises(OutputError, match="seg_type is 'binry'; it can be binary, fractional"):
        OutputSettings(("dicom-seg",), "binry")
    assert OutputSettings(seg_type="labelmap").seg_type == "labelmap"
