"""`python -m swift …`"""

import sys

from swift.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
