"""A writer in a process of its own, without a supervisor: `python writer_process.py DATA RUNTIME CHANNEL`."""

import sys

import msgspec

from daedalus.actors.writer import Writer, WriterSettings
from daedalus.kernel.actor import Context, run

if __name__ == "__main__":
    data, runtime, channel = sys.argv[1:4]
    options = dict(item.split("=") for item in sys.argv[4:])
    settings = WriterSettings(
        channel=channel,
        data=data,
        runtime=runtime,
        segment_max_mb=float(options.get("segment_max_mb", "50")),
        idle_seal_s=float(options.get("idle_seal_s", "60")),
    )
    context = Context(name=f"store/writer-{channel}", runtime=runtime, data=data, drain_s=30.0)
    raise SystemExit(run(Writer, msgspec.msgpack.encode(settings), context))
