"""The command line: `daedalus-supervisor`, `daedalus-ctl`, `daedalus`. Each command imports what it needs."""
