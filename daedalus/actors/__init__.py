"""The actors: one process each. A frozen `Settings` Struct and one `Actor` class per module."""
