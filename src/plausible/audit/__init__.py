"""Measure, by intervention, which of back-propagation's problems a learning rule really solves."""

from plausible.audit.assertions import assert_solves
from plausible.audit.criterion import Batch, Criterion, Unmeasurable, criteria
from plausible.audit.engine import Examined, Examining, audit
from plausible.audit.finding import Finding, Verdict
from plausible.audit.foreign import Foreign, ForeignSubject
from plausible.audit.scorecard import Scorecard
from plausible.audit.subject import LearnerSubject, Specimen, Subject

__all__ = [
    "Batch",
    "Criterion",
    "Examined",
    "Examining",
    "Finding",
    "Foreign",
    "ForeignSubject",
    "LearnerSubject",
    "Scorecard",
    "Specimen",
    "Subject",
    "Unmeasurable",
    "Verdict",
    "assert_solves",
    "audit",
    "criteria",
]
