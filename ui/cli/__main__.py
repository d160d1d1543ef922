"""`python -m ui.cli` is `folioscope`."""

from ui.cli.app import main

if __name__ == "__main__":
    main()
