"""What the audit found of every rule of this package: the table that is shipped with it.

``python results/audit.py`` makes it anew, each rule on the model it is made for and on :data:`DATA`.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from plausible.audit.scorecard import Scorecard

DATA = "digits"
"""The data set of every scorecard in the table."""

FILE = "measured.json"
"""The table's name beside this file."""


@cache
def measured() -> Mapping[str, Scorecard]:
    """Rule → its scorecard with default options; a rule that the table does not know is not in it.

    Raises:
        DataError: the shipped table is damaged.
    """
    file = resources.files("plausible.audit") / FILE
    cards = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return MappingProxyType({card["subject"]: Scorecard.from_dict(card) for card in cards})
