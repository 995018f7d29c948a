"""Words that describe an image and tell nobody: what is kept of a description, and what is no sign of a person.

English, and short forms that scanners use. Numbers are not among them: they may be dates, ages, telephone numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_BODY: Final = """
abd abdomen abdominal adrenal airway ankle aorta aortic appendix arm arterial arteries artery axilla bladder body bone bones
bowel brachial brain breast breasts bronchial bronchus calcaneus cardiac carotid cerebellum cerebral cervical chest clavicle
coccyx colon coronary cranial cranium elbow esophagus extremity eye eyes face facial femoral femur fibula finger foot forearm
gallbladder hand head heart hepatic hip hippocampus humerus iliac jaw joint kidney kidneys knee larynx leg ligament liver lower
lumbar lung lungs mandible maxilla mediastinum meniscus mesenteric muscle neck nerve orbit orbits ovary pancreas parotid
patella pelvic pelvis penis pharynx pituitary placenta pleura prostate pulmonary radius rectum renal rib ribs sacrum scapula
sella shoulder sinus sinuses skull spinal spine spleen sternum stomach temporal testis thigh thoracic thorax throat thumb
thymus thyroid tibia toe tongue torso trachea trunk ulna upper ureter urethra urinary uterus vascular vein veins venous
ventricle vertebra vessel vessels whole wrist
"""
_PICTURE: Final = """
2d 3d 4d adc angio angiogram angiography anterior ap average axial b0 basic bilateral bolus bone bottom bright cal calibration
cine contrast cor coronal cr ct cta ctp curved dark dce delay delayed derived diffusion dixon dual dwi dx dynamic early ecg
echo enhanced enhancement epi exp expiration fast fat fatsat fetal field fiesta filter flair flash flow fluid fluoro frontal fs
fse functional fusion gated gradient gre head high hr hu image images in inspiration inversion iso isotropic kernel lac lao lat
late lateral left localiser localizer lossless lossy low lt magnitude mammography map mask max maximum mean medium min minimum
minip mip mono mosaic motion mpr mprage mra mri multi multiphase mv native nm noise non obl oblique op opposed orig original
out pa parallel pd perfusion pet petct phase pilot planar plane portal post posterior power pre primary projection prone
propeller prospective proton pt pw qc quality radial rao raw ray recon reconstruction reformat reformatted relative rest retro
right rotation rt sag sagittal scan scout screen se secondary seg segmentation sequence series shifted short slab slice slices
soft space spair speed spgr spin spiral spoiled stacked standard static stir stress study subtracted subtraction sum supine
susceptibility swi t1 t1w t2 t2star t2w tfe thick thin time tissue tof top topogram tra transversal transverse tse turbo
ultrasound uniform us vibe view views volume volumetric vr water weighted wide window with without wo xa xr xray
"""
# Never of use in a description, but found in headers of everybody.
_HEADERS: Final = """
and anon anonymised anonymized anonymous application attribute center centre characteristics clean clinic confidentiality data
dates dcm de deidentified demo department description descriptors device dicom e1 example false ffp ffs for generic hfp hfs
hospital hounsfield id identification identified identity implementation information institution institutional longitudinal
method modified monochrome1 monochrome2 name no none normal not null number of option other patient person phantom physician
pixel profile ps3 pydicom removed research retain sample subject temporal test testing the true uids unknown unnamed
unspecified user version yes
"""


def _set(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


HARMLESS: Final = _set(_BODY, _PICTURE)
COMMON: Final = HARMLESS | _set(_HEADERS)


def harmless(text: str, names: Iterable[str]) -> str:
    """The words of a description that are known and are not among `names` (case-folded), one space between them."""
    kept = HARMLESS - set(names)
    return " ".join(word for word in re.findall(r"[^\W_]+", text) if word.casefold() in kept)
