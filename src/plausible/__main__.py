"""``python -m plausible``, and so ``torchrun -m plausible train ...``."""

from plausible.cli import main

main()
