"""This package holds the flatbuffer: tensors and operators as the schema has them, and how data lies in it."""
