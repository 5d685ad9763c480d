"""The measurements: one file per question, each with `run() -> dict`; results/ alone feeds the docs."""
