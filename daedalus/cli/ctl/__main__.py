"""`python -m daedalus.cli.ctl`: the same program."""

from daedalus.cli.ctl.program import main

if __name__ == "__main__":
    main()
