"""A drawn picture of a prediction as a DICOM secondary capture, for viewers that know nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hounsfield.io.results.origin import Author, Origin, making

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DIRECTIONS = {"R": "R", "L": "L", "A": "A", "P": "P", "S": "H", "I": "F"}


def secondary_capture(origin: Origin, picture: npt.NDArray[np.uint8], author: Author) -> Dataset:
    """picture: (H, W, 3) RGB; of a volume an axial slice with the patient's right on the left. Raises InputError BAD_HEADER."""
    import highdicom as hd
    from pydicom.dataset import Dataset as Item

    first = origin.first
    with making(origin, "secondary capture"):
        result: Any = hd.sc.SCImage(
            pixel_array=np.ascontiguousarray(picture),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            study_instance_uid=first.StudyInstanceUID,
            patient_id=first.PatientID,
            patient_name=first.PatientName,
            patient_birth_date=first.PatientBirthDate,
            patient_sex=first.PatientSex or None,
            accession_number=first.AccessionNumber,
            study_id=first.StudyID,
            study_date=first.StudyDate or None,
            study_time=first.StudyTime or None,
            referring_physician_name=first.ReferringPhysicianName,
            patient_orientation=_orientation(origin) or ("L", "P"),
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            **origin.series("sc", author),
        )
        if _orientation(origin) is None:
            result.PatientOrientation = None
        result.Laterality = first.get("Laterality")  # as the source says, or unknown
        result.copy_patient_and_study_information(first)
        references = []
        for image in origin.sources():
            item = Item()
            item.ReferencedSOPClassUID = image.SOPClassUID
            item.ReferencedSOPInstanceUID = image.SOPInstanceUID
            references.append(item)
        result.SourceImageSequence = references
    made: Dataset = result
    return made


def _orientation(origin: Origin) -> tuple[str, str] | None:
    """Where the picture's rows and columns run to in the patient; None where that is unknown."""
    if not origin.placed:
        return None
    if origin.geometry.ndim == 3:
        return "L", "P"
    rows, columns = (_DIRECTIONS[letter] for letter in origin.geometry.orientation)
    return columns, rows
