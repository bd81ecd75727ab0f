"""Run by torchrun: one run, and, if asked, a process that is killed on the way, the first time.

torchrun --standalone --nproc-per-node 2 on_ranks_trained.py RUN FOLDER [STEP]
"""

import os
import signal
import sys
from pathlib import Path

from plausible.train import Run, loop, train


def main() -> None:
    """Train; at STEP the second process kills itself, unless torchrun has started it again."""
    run = Run.from_json(Path(sys.argv[1]).read_text())
    if sys.argv[3:] and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        learn = loop.Loop._learn

        def dying(self: loop.Loop, *batch) -> None:
            if self.step == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            learn(self, *batch)

        loop.Loop._learn = dying
    train(run, sys.argv[2], checkpoint_seconds=0)


if __name__ == "__main__":
    main()
