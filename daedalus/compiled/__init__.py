"""The hot paths of storage, compiled ahead of time and runnable uncompiled: one file, one loop each.

They know memory, numbers and checksums, and nothing of markets, sockets or files: whoever calls them says
what the bytes mean. As with the kernels of `features`, DAEDALUS_PURE=1 runs the very same files as Python.
"""

import os

from daedalus import pure

pure.install(__name__, __path__[0], from_source=os.environ.get("DAEDALUS_PURE") == "1")
