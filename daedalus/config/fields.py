"""The kinds of value that keys of supervisor.toml have, each with its bounds in words and in JSON Schema.

Whole numbers end where a 64-bit integer does or earlier, and texts that reach the operating system hold no
NUL: what is refused here cannot fail later, in a place that knows no line number.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from daedalus.config import values

__all__ = [
    "Alias",
    "Core",
    "Count",
    "EnvName",
    "ExitCode",
    "HostPort",
    "Hours",
    "HttpUrl",
    "Intensity",
    "IpcAddress",
    "Name",
    "Percent",
    "Positive",
    "Rate",
    "Seconds",
    "SignalName",
    "Size",
    "Symbol",
    "Table",
    "TcpAddress",
    "Text",
    "Whole",
    "Word",
    "WsUrl",
]

_MOST = (1 << 31) - 1

Size = Annotated[
    int,
    BeforeValidator(values.parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\d+(\.\d+)? *[KMG]?$"},
            ]
        }
    ),
]
Name = Annotated[str, AfterValidator(values.parse_name)]
Symbol = Annotated[
    str,
    AfterValidator(values.parse_symbol),
    WithJsonSchema({"type": "string", "pattern": r"^[^\s/:]+/[^\s/:]+(:[^\s/:]+)?$"}),
]
Alias = Annotated[
    str,
    AfterValidator(values.parse_alias),
    WithJsonSchema({"type": "string", "pattern": r"^[^\s./\\:*?\"<>|][^\s/\\:*?\"<>|]*$"}),
]
Whole = Annotated[int, Field(ge=0, le=_MOST)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
Intensity = Annotated[int, Field(ge=0, le=10_000)]
Core = Annotated[int, Field(ge=0, le=4095)]
ExitCode = Annotated[int, Field(ge=0, le=255)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Hours = Annotated[float, Field(ge=0, le=8760, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=99, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(values.parse_text)]  # may be empty
Word = Annotated[str, Field(min_length=1), AfterValidator(values.parse_text)]
EnvName = Annotated[str, AfterValidator(values.parse_env_name)]
TcpAddress = Annotated[
    str,
    AfterValidator(values.parse_tcp),
    WithJsonSchema({"type": "string", "pattern": r"^(tcp://\S+:\d+)?$"}),
]
IpcAddress = Annotated[
    str,
    AfterValidator(values.parse_ipc),
    WithJsonSchema({"type": "string", "pattern": r"^(ipc:///\S+)?$"}),
]
HostPort = Annotated[
    str,
    AfterValidator(values.parse_host_port),
    WithJsonSchema({"type": "string", "pattern": r"^(\S+:\d+)?$"}),
]
HttpUrl = Annotated[
    str,
    AfterValidator(values.parse_http_url),
    WithJsonSchema({"type": "string", "pattern": r"^(https?://\S+)?$"}),
]
WsUrl = Annotated[
    str,
    AfterValidator(values.parse_ws_url),
    WithJsonSchema({"type": "string", "pattern": r"^(wss?://\S+)?$"}),
]
SignalName = Annotated[
    str,
    AfterValidator(values.parse_signal),
    WithJsonSchema({"type": "string", "pattern": r"^(SIG[A-Z0-9+-]+)?$"}),
]


class Table(BaseModel):
    """Base of all tables: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
