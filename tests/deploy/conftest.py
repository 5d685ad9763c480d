"""Which tests of the deployment can be collected here."""

import os

# .ci/run unpacks a Debian (`debian.sh`), and says so loudly when it cannot.
collect_ignore = [] if os.environ.get("DAEDALUS_DEBIAN_ROOT") else ["test_debian_root.py"]
