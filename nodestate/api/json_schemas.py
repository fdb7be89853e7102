"""What the shapes and records look like as JSON, in the words of JSON Schema.

A record is not the same in both directions. What is sent has every field, but for those
that are only there if asked for. What is received may leave out any field, or have `null`
for it, and unknown ones are passed over.
"""

from typing import Any, Final, get_args

import msgspec
from msgspec import inspect

from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret

Schema = dict[str, Any]

REFERENCE: Final = "#/components/schemas/"
INTEGER_MAX: Final = (1 << 63) - 1
RECEIVED: Final = "Sent"
"""How the shapes are called that only clients send."""
RECEIVED_RECORD: Final = "Input"
"""What is put behind the name of a record where a client sends it."""

TEXT: Final[Schema] = {"type": "string"}
NULL: Final[Schema] = {"type": "null"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
ANYTHING: Final[Schema] = {}


class JsonSchemas:
    """The schemas of types in one direction; those of records go by name."""

    def __init__(self, *, are_received: bool) -> None:
        self.components: dict[str, Schema] = {}
        self._are_received = are_received
        self._classes: dict[str, type] = {}

    def of(self, kind: object) -> Schema:
        """Return the schema of a type; what it refers to is in the components then."""
        return self._of(inspect.type_info(kind))

    def _of(self, info: inspect.Type) -> Schema:
        match info:
            case inspect.StructType(cls=cls):
                return self._reference(cls)
            case inspect.UnionType():
                return self._union(info)
            case inspect.DictType():
                values = self._part(info.value_type)
                return {"type": "object", "additionalProperties": values}
            case inspect.ListType() | inspect.VarTupleType():
                return {"type": "array", "items": self._part(info.item_type)}
            case inspect.EnumType(cls=cls):
                return {**TEXT, "enum": [word.value for word in cls]}
            case inspect.LiteralType():
                return {**TEXT, "enum": list(info.values)}
            case inspect.CustomType(cls=cls):
                return dict(_CUSTOM[cls])
            case _:
                return dict(_SCALARS[type(info)])

    def _part(self, info: inspect.Type) -> Schema:
        """Return the schema of what is in a list or a map, or is a field."""
        schema = self._of(info)
        return nullable(schema) if self._are_received else schema

    def _union(self, info: inspect.UnionType) -> Schema:
        parts = [part for part in info.types if not isinstance(part, inspect.NoneType)]
        schemas = [self._of(part) for part in parts]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        is_nullable = any(isinstance(part, inspect.NoneType) for part in info.types)
        return nullable(schema) if is_nullable else schema

    def _reference(self, cls: type[msgspec.Struct]) -> Schema:
        name = self.name_of(cls)
        known = self._classes.setdefault(name, cls)
        assert known is cls, f"two records called {name}: {known} and {cls}"
        if name not in self.components:
            self.components[name] = {}  # one that has itself in it is not begun again
            self.components[name] = self._object(cls)
        return {"$ref": REFERENCE + name}

    def name_of(self, cls: type[msgspec.Struct]) -> str:
        """Return what a record is called in the components."""
        name = cls.__name__
        if self._are_received and not name.endswith(RECEIVED):
            return name + RECEIVED_RECORD
        return name

    def _object(self, cls: type[msgspec.Struct]) -> Schema:
        fields = msgspec.structs.fields(cls)
        schema: Schema = {
            "type": "object",
            "description": _first_sentence(cls),
            "properties": {
                field.encode_name: self._part(inspect.type_info(field.type))
                for field in fields
            },
        }
        if not self._are_received:
            schema["required"] = [
                field.encode_name for field in fields if not _may_be_unset(field.type)
            ]
            schema["additionalProperties"] = False
        return schema


def nullable(schema: Schema) -> Schema:
    """Return the schema of what may also be `null`."""
    kind = schema.get("type")
    if NULL in schema.get("anyOf", ()):
        return schema
    if isinstance(kind, str) and kind != "null" and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    if not schema or kind == "null" or (isinstance(kind, list) and "null" in kind):
        return schema
    return {"anyOf": [schema, NULL]}


def integer(minimum: int = -INTEGER_MAX - 1, maximum: int = INTEGER_MAX) -> Schema:
    """Return the schema of a whole number, of 64 bits if nothing else is said."""
    return {
        "type": "integer",
        "format": "int64",
        "minimum": minimum,
        "maximum": maximum,
    }


def _first_sentence(cls: type) -> str:
    return f"{' '.join((cls.__doc__ or '').split()).partition('. ')[0].rstrip('.')}."


def _may_be_unset(kind: object) -> bool:
    # Asked of the annotation: msgspec's own description leaves this part of it out.
    return msgspec.UnsetType in get_args(kind)


_SCALARS: Final[dict[type[inspect.Type], Schema]] = {
    inspect.StrType: TEXT,
    inspect.BoolType: BOOLEAN,
    inspect.IntType: integer(),
    inspect.FloatType: {"type": "number", "format": "double"},
    inspect.BytesType: {**TEXT, "contentEncoding": "base64"},
    inspect.NoneType: NULL,
    inspect.AnyType: ANYTHING,
    inspect.RawType: ANYTHING,
}
_CUSTOM: Final[dict[type, Schema]] = {
    Timestamp: {"type": ["string", "null"], "format": "date-time"},
    Secret: TEXT,
}
