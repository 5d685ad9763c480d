"""Runs one live actor as a zygote would: `python -m tests.system.live_actor NAME CLASS SETTINGS RUNTIME`."""

import json
import sys
from importlib import import_module

import msgspec

from daedalus.kernel.actor import Context, run

if __name__ == "__main__":
    name, target, settings, runtime = sys.argv[1:]
    module, _, cls = target.partition(":")
    told = msgspec.msgpack.encode(json.loads(settings))
    sys.exit(run(getattr(import_module(module), cls), told, Context(name=name, runtime=runtime)))
