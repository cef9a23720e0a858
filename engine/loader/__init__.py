"""From text to a program: YAML with places, the schema, the checks. Nothing here does I/O."""

from engine.loader.check import Catalog, check, load_flow
from engine.loader.document import Document, load
from engine.loader.schema import flow_schema, input_schema, output_schema

__all__ = ["Catalog", "Document", "check", "flow_schema", "input_schema", "load", "load_flow", "output_schema"]
