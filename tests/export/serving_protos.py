"""Messages of TF Serving and Triton whose definitions no Python package carries, by their field names and types."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_PACKAGE = "tfzoo_tests"
_TYPES = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _TYPES.TYPE_STRING, "bool": _TYPES.TYPE_BOOL, "int64": _TYPES.TYPE_INT64}

# Message -> field -> type; "*" = repeated.
_MESSAGES = {
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "*int64",
        "pad_variable_length_inputs": "bool",
    },
    # tensorflow_serving/config/monitoring_config.proto
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    # Triton's model_config.proto, as far as a model of one ONNX file needs it
    "ModelTensorReshape": {"shape": "*int64"},
    "ModelInput": {"name": "string", "data_type": "DataType", "dims": "*int64", "reshape": "ModelTensorReshape"},
    "ModelOutput": {"name": "string", "data_type": "DataType", "dims": "*int64", "reshape": "ModelTensorReshape"},
    "ModelDynamicBatching": {"preferred_batch_size": "*int64", "max_queue_delay_microseconds": "int64"},
    "ModelConfig": {
        "name": "string",
        "platform": "string",
        "backend": "string",
        "max_batch_size": "int64",
        "input": "*ModelInput",
        "output": "*ModelOutput",
        "dynamic_batching": "ModelDynamicBatching",
    },
}
_DATA_TYPES = ["TYPE_INVALID", "TYPE_BOOL", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_STRING"]


def _file():
    file = descriptor_pb2.FileDescriptorProto(name="tfzoo_tests.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    enum = file.enum_type.add(name="DataType")
    for number, name in enumerate(_DATA_TYPES):
        enum.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields.items(), start=1):
            field = message.field.add(name=field_name, number=number)
            field.label = _TYPES.LABEL_REPEATED if kind.startswith("*") else _TYPES.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            elif kind == "DataType":
                field.type, field.type_name = _TYPES.TYPE_ENUM, f".{_PACKAGE}.DataType"
            else:
                package = "google.protobuf" if kind.endswith("Value") else _PACKAGE
                field.type, field.type_name = _TYPES.TYPE_MESSAGE, f".{package}.{kind}"
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
_pool.AddSerializedFile(_file().SerializeToString())
BatchingParameters, MonitoringConfig, ModelConfig = (
    message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
    for name in ("BatchingParameters", "MonitoringConfig", "ModelConfig")
)
DataType = _pool.FindEnumTypeByName(f"{_PACKAGE}.DataType").values_by_number
