"""`daedalus-ctl`: look at a running tree and tell it what to do.

The supervisor measures and decides; the client asks one question over a Unix socket and prints the answer. It
starts as fast as it can: click, socket and json are all that is imported before the command is known, and
each command lives in a file that is imported when it is asked for (`program`). Data go to standard output,
everything else to standard error. Exit codes: 0 ok, 1 failed, 2 usage, 3 not as wanted, 4 no such actor, 5
timed out, 6 conflict, 7 unreachable, 8 denied.
"""

from daedalus.cli.ctl.program import main

__all__ = ["main"]
