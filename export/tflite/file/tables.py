"""This table lists what the schema's tables refer to: the fields that lead to other places of the file.

Source: schema.fbs of TensorFlow Lite (version 3), as LiteRT 2.3 has it. Fields that are plain numbers are not here.
"""

from collections.abc import Mapping

TEXT = "text"
"""A string."""
VECTOR_BYTES: Mapping[str, int] = {"byte": 1, "bool": 1, "ushort": 2, "int": 4, "uint": 4, "float": 4, "long": 8}
"""Bytes of an element of a vector of numbers, by its name."""
UNIONS: Mapping[str, str] = {
    "union BuiltinOptions": "BuiltinOptions",
    "union BuiltinOptions2": "BuiltinOptions2",
    "union QuantizationDetails": "QuantizationDetails",
    "union SparseIndexVector": "SparseIndexVector",
}
"""The schema's enumeration of each union; the field in front of a union says which table it is."""

REFERENCES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Model": {
        6: ("operator_codes", "[OperatorCode]"),
        8: ("subgraphs", "[SubGraph]"),
        10: ("description", TEXT),
        12: ("buffers", "[Buffer]"),
        14: ("metadata_buffer", "[int]"),
        16: ("metadata", "[Metadata]"),
        18: ("signature_defs", "[SignatureDef]"),
        20: ("external_buffer_groups", "[ExternalBufferGroup]"),
        22: ("external_buffers", "[ExternalBuffer]"),
    },
    "OperatorCode": {6: ("custom_code", TEXT)},
    "SubGraph": {
        4: ("tensors", "[Tensor]"),
        6: ("inputs", "[int]"),
        8: ("outputs", "[int]"),
        10: ("operators", "[Operator]"),
        12: ("name", TEXT),
    },
    "Tensor": {
        4: ("shape", "[int]"),
        10: ("name", TEXT),
        12: ("quantization", "QuantizationParameters"),
        16: ("sparsity", "SparsityParameters"),
        18: ("shape_signature", "[int]"),
        22: ("variant_tensors", "[VariantSubType]"),
    },
    "QuantizationParameters": {
        4: ("min", "[float]"),
        6: ("max", "[float]"),
        8: ("scale", "[float]"),
        10: ("zero_point", "[long]"),
        14: ("details", "union QuantizationDetails"),
    },
    "SparsityParameters": {
        4: ("traversal_order", "[int]"),
        6: ("block_map", "[int]"),
        8: ("dim_metadata", "[DimensionMetadata]"),
    },
    "DimensionMetadata": {
        10: ("array_segments", "union SparseIndexVector"),
        14: ("array_indices", "union SparseIndexVector"),
    },
    "VariantSubType": {4: ("shape", "[int]")},
    "Operator": {
        6: ("inputs", "[int]"),
        8: ("outputs", "[int]"),
        12: ("builtin_options", "union BuiltinOptions"),
        14: ("custom_options", "[byte]"),
        18: ("mutating_variable_inputs", "[bool]"),
        20: ("intermediates", "[int]"),
        28: ("builtin_options2", "union BuiltinOptions2"),
    },
    "Buffer": {4: ("data", "[byte]")},
    "Metadata": {4: ("name", TEXT)},
    "SignatureDef": {4: ("inputs", "[TensorMap]"), 6: ("outputs", "[TensorMap]"), 8: ("signature_key", TEXT)},
    "TensorMap": {4: ("name", TEXT)},
    "CustomQuantization": {4: ("custom", "[byte]")},
    "BlockwiseQuantization": {10: ("block_shape", "[int]")},
    "MultiAxisQuantization": {10: ("quantized_dimensions", "[int]")},
    "Int32Vector": {4: ("values", "[int]")},
    "Uint16Vector": {4: ("values", "[ushort]")},
    "Uint8Vector": {4: ("values", "[byte]")},
    "StablehloGatherOptions": {
        4: ("offset_dims", "[long]"),
        6: ("collapsed_slice_dims", "[long]"),
        8: ("start_index_map", "[long]"),
        12: ("slice_sizes", "[long]"),
    },
    "StablehloTransposeOptions": {4: ("permutation", "[long]")},
    "StablehloDotGeneralOptions": {
        4: ("lhs_batching_dimensions", "[long]"),
        6: ("rhs_batching_dimensions", "[long]"),
        8: ("lhs_contracting_dimensions", "[long]"),
        10: ("rhs_contracting_dimensions", "[long]"),
        12: ("precision_config", "[uint]"),
    },
    "StablehloReduceWindowOptions": {
        4: ("window_dimensions", "[long]"),
        6: ("window_strides", "[long]"),
        8: ("base_dilations", "[long]"),
        10: ("window_dilations", "[long]"),
        12: ("padding", "[long]"),
    },
    "StablehloBroadcastInDimOptions": {4: ("broadcast_dimensions", "[long]")},
    "StablehloDynamicSliceOptions": {4: ("slice_sizes", "[long]")},
    "StablehloPadOptions": {
        4: ("edge_padding_low", "[long]"),
        6: ("edge_padding_high", "[long]"),
        8: ("interior_padding", "[long]"),
    },
    "StablehloCustomCallOptions": {
        4: ("call_target_name", TEXT),
        8: ("backend_config", TEXT),
        12: ("called_computations", "[int]"),
        14: ("custom_attributes", "[byte]"),
    },
    "StablehloReduceOptions": {4: ("dimensions", "[long]")},
    "StablehloSliceOptions": {4: ("start_indices", "[long]"), 6: ("limit_indices", "[long]"), 8: ("strides", "[long]")},
    "StablehloConvolutionOptions": {
        4: ("window_strides", "[long]"),
        6: ("padding", "[long]"),
        8: ("lhs_dilation", "[long]"),
        10: ("rhs_dilation", "[long]"),
        12: ("window_reversal", "[bool]"),
        18: ("input_spatial_dimensions", "[long]"),
        24: ("kernel_spatial_dimensions", "[long]"),
        30: ("output_spatial_dimensions", "[long]"),
        36: ("precision_config", "[uint]"),
    },
    "StablehloScatterOptions": {
        6: ("update_window_dims", "[long]"),
        8: ("inserted_window_dims", "[long]"),
        10: ("scatter_dims_to_operand_dims", "[long]"),
    },
    "StablehloCaseOptions": {4: ("branch_subgraph_indices", "[int]")},
    "ConcatEmbeddingsOptions": {6: ("num_columns_per_channel", "[int]"), 8: ("embedding_dim_per_channel", "[int]")},
    "FullyConnectedOptions": {14: ("quant_spec", "[byte]")},
    "ReshapeOptions": {4: ("new_shape", "[int]")},
    "SqueezeOptions": {4: ("squeeze_dims", "[int]")},
    "VarHandleOptions": {4: ("container", TEXT), 6: ("shared_name", TEXT)},
    "BucketizeOptions": {4: ("boundaries", "[float]")},
    "StableHLOCompositeOptions": {4: ("name", TEXT), 8: ("composite_attributes", "[byte]")},
    "ExternalBufferGroup": {4: ("name", TEXT)},
    "ExternalBuffer": {12: ("packing", TEXT)},
}
"""By table and place in it (the schema's number of the field, doubled, plus 4): the field's name, and what it leads to.
`[x]` is a vector, of numbers or of tables."""
