"""The operators of TensorFlow that a SavedModel may be made of.

A network that computes features of pictures needs no others; what is missing here does not convert to LiteRT's
built-in operators either, or reaches outside of the graph. Those here compute numbers from numbers, call functions of
the same file, and keep variables: none of them reads or writes a file, speaks with another process, runs Python or
prints. Those for training are here because many SavedModels hold a second function for it, which nobody calls.
"""

_STRUCTURE = (
    *("Const", "Placeholder", "PlaceholderWithDefault", "NoOp", "Identity", "IdentityN", "Snapshot", "StopGradient"),
    *("PreventGradient", "EnsureShape", "Assert", "PartitionedCall", "StatefulPartitionedCall"),
    *("If", "StatelessIf", "While", "StatelessWhile"),
)
_VARIABLES = (
    *("VarHandleOp", "VarIsInitializedOp", "ReadVariableOp", "AssignVariableOp", "AssignAddVariableOp"),
    *("AssignSubVariableOp", "VariableShape", "ResourceGather", "DestroyResourceOp", "DisableCopyOnRead"),
    *("VariableV2", "Assign"),  # of TensorFlow 1
)
_LAYERS = (
    *("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMul", "BatchMatMulV2"),
    *("BatchMatMulV3", "Einsum", "BiasAdd", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "LRN"),
    *("L2Loss", "AvgPool", "MaxPool", "MaxPoolV2", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"),
    *("ResizeArea", "ExtractImagePatches", "SpaceToDepth", "DepthToSpace", "SpaceToBatchND", "BatchToSpaceND"),
    *("ImageProjectiveTransformV2", "ImageProjectiveTransformV3"),
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "Sigmoid", "Tanh", "Erf", "Erfc"),
    *("Softmax", "LogSoftmax"),
)
_ARITHMETIC = (
    *("Abs", "Add", "AddN", "AddV2", "Sub", "Mul", "MulNoNan", "Div", "RealDiv", "DivNoNan", "FloorDiv", "FloorMod"),
    *("TruncateDiv", "TruncateMod", "Mod", "Neg", "Inv", "Reciprocal", "Sqrt", "Rsqrt", "Square"),
    *("SquaredDifference", "Pow", "Exp", "Expm1", "Log", "Log1p", "Sign", "Sin", "Cos", "Floor", "Ceil", "Round"),
    *("Rint", "Maximum", "Minimum", "ClipByValue", "Cumsum", "Sum", "Prod", "Mean", "Max", "Min", "All", "Any"),
    *("ArgMax", "ArgMin", "TopKV2", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual"),
    *("LogicalAnd", "LogicalOr", "LogicalNot", "Select", "SelectV2", "Where", "IsNan", "IsInf", "IsFinite"),
)
_SHAPES = (
    *("Reshape", "Shape", "ShapeN", "Size", "Rank", "Squeeze", "ExpandDims", "Transpose", "Concat", "ConcatV2"),
    *("Split", "SplitV", "Slice", "StridedSlice", "Pack", "Unpack", "Pad", "PadV2", "MirrorPad", "Tile", "Fill"),
    *("ZerosLike", "OnesLike", "Range", "Gather", "GatherV2", "GatherNd", "ScatterNd", "ReverseV2", "Roll"),
    *("BroadcastTo", "BroadcastArgs", "OneHot", "InvertPermutation", "Cast", "Bitcast"),
    *("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"),
)
_RANDOM = (
    *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RngReadAndSkip"),
    *("StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessRandomUniformInt", "StatelessRandomUniformIntV2"),
    *("StatelessRandomNormal", "StatelessRandomNormalV2", "StatelessTruncatedNormal", "StatelessTruncatedNormalV2"),
    *("StatelessRandomGetKeyCounter", "StatelessRandomGetAlg"),
)
ALLOWED = frozenset(_STRUCTURE + _VARIABLES + _LAYERS + _ARITHMETIC + _SHAPES + _RANDOM)
# What writes a model's own variables: never called here, and allowed only where nothing else calls it.
SAVING = frozenset(("SaveV2", "MergeV2Checkpoints", "ShardedFilename", "StringJoin", "StaticRegexFullMatch"))
# What reads them: allowed only with the file name that whoever loads the model gives it.
RESTORING = "RestoreV2"
