"""`python -m swift …`"""

from swift.cli.main import console

if __name__ == "__main__":
    console()
