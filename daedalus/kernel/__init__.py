"""The actor runtime: processes, supervision, lossless links. It knows no markets."""
