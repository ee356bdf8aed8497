"""`python …/swift/cli/merge_lora.py …` starts here."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # Python put swift/cli there, whose files are no top-level modules
    from swift.cli.main import run

    sys.exit(run("merge-lora"))
