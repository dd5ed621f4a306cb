"""The flatbuffer: tensors and operators as the schema has them."""
