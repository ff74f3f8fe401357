"""Values of Iceberg columns in one comparable form, and how JSON becomes them.

Written apart from the binary's decoder on purpose: the tests compare the two.
"""

import base64
import json
import re
import uuid
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import ROUND_HALF_UP, Decimal, localcontext

EPOCH = datetime(1970, 1, 1)
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}


class Rejected(Exception):
    """The record cannot become a row."""


def parse_type(text):
    """`list<string>` -> ("list", "string"); `struct<a: int>` -> ("struct", [("a", "int")])."""
    match = re.fullmatch(r"(struct|list|map)<(.*)>", text.strip())
    if not match:
        return text.strip(), None
    parts = split_top_level(match[2])
    if match[1] == "struct":
        return "struct", [tuple(s.strip() for s in part.split(":", 1)) for part in parts]
    return match[1], parts[0] if match[1] == "list" else tuple(parts)


def split_top_level(text):
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "<(") - (c in ">)")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def from_json(value, type_text, epoch_unit="ms"):
    """A JSON value as a value of the column type, in the form of `canonical`."""
    if value is None:
        return None
    kind, inner = parse_type(type_text)
    try:
        return decode(value, kind, inner, epoch_unit)
    except Rejected:
        raise
    except Exception as e:
        raise Rejected(f"{value!r} is no {type_text}: {e}") from e


def decode(value, kind, inner, unit):
    if kind == "struct":
        return canonical({n: from_json(value.get(n), t, unit) for n, t in inner}, None)
    if kind == "list":
        if not isinstance(value, list):
            raise Rejected("not a list")
        return tuple(from_json(v, inner, unit) for v in value)
    if kind == "map":
        # A JSON object's keys are strings whatever the key type is.
        return tuple(sorted((k, from_json(v, inner[1], unit)) for k, v in value.items()))
    if kind in ("int", "long"):
        if isinstance(value, bool) or not isinstance(value, int):
            raise Rejected("not an integer")
        bits = 31 if kind == "int" else 63
        if not -(2**bits) <= value < 2**bits:
            raise Rejected("out of range")
        return value
    if kind == "boolean":
        if not isinstance(value, bool):
            raise Rejected("not a boolean")
        return value
    if kind in ("float", "double"):
        return float(value)
    if kind.startswith("decimal"):
        scale = int(re.findall(r"\d+", kind)[1])
        with localcontext(prec=60):
            return Decimal(str(value)).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    if kind == "date":
        return date.fromisoformat(value)
    if kind == "time":
        return clock.fromisoformat(value)
    if kind in ("timestamp", "timestamptz"):
        return timestamp(value, kind, unit)
    if kind == "uuid":
        return str(uuid.UUID(value))
    if kind == "binary" or kind.startswith("fixed"):
        return base64.b64decode(value, validate=True)
    if kind == "string":
        if not isinstance(value, str):
            raise Rejected("not a string")
        return value
    raise AssertionError(f"the model knows no {kind}")


def timestamp(value, kind, unit):
    if isinstance(value, bool):
        raise Rejected("not a timestamp")
    if isinstance(value, int):
        moment = EPOCH + timedelta(microseconds=value * UNITS[unit])
    else:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.replace(tzinfo=UTC) if kind == "timestamptz" else moment


def canonical(value, kind):
    """What a reader returned, in the one form that all readers and the model agree on."""
    if value is None:
        return None
    if kind == "uuid":
        return str(uuid.UUID(bytes=value)) if isinstance(value, bytes) else str(value)
    if kind == "float":
        return float(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value
    if isinstance(value, dict):
        return tuple((name, canonical(v, None)) for name, v in value.items())
    if isinstance(value, list):
        pairs = bool(value) and all(isinstance(v, tuple) and len(v) == 2 for v in value)
        items = tuple(tuple(canonical(x, None) for x in v) if pairs else canonical(v, None) for v in value)
        # Arrow gives a map as a list of pairs, in whatever order the file has them.
        return tuple(sorted(items)) if pairs or (kind or "").startswith("map") else items
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


def load_object(value):
    """The JSON object of a record."""
    try:
        found = json.loads(value)
    except Exception as e:
        raise Rejected(f"no JSON: {e}") from e
    if not isinstance(found, dict):
        raise Rejected("no JSON object")
    return found
