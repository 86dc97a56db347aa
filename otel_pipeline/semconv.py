"""Names of attributes and metrics. Generated; do not edit."""

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

MESSAGING_SYSTEM: Final[str] = "messaging.system"
MESSAGING_OPERATION_NAME: Final[str] = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final[str] = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final[str] = "messaging.destination.name"
MESSAGING_DESTINATION_PARTITION_ID: Final[str] = "messaging.destination.partition.id"
MESSAGING_CONSUMER_GROUP_NAME: Final[str] = "messaging.consumer.group.name"
MESSAGING_CLIENT_ID: Final[str] = "messaging.client.id"
MESSAGING_KAFKA_CLUSTER_ID: Final[str] = "messaging.kafka.cluster.id"
MESSAGING_KAFKA_OFFSET: Final[str] = "messaging.kafka.offset"
MESSAGING_KAFKA_MESSAGE_KEY: Final[str] = "messaging.kafka.message.key"
MESSAGING_KAFKA_MESSAGE_TOMBSTONE: Final[str] = "messaging.kafka.message.tombstone"
MESSAGING_BATCH_MESSAGE_COUNT: Final[str] = "messaging.batch.message_count"
SERVER_ADDRESS: Final[str] = "server.address"
SERVER_PORT: Final[str] = "server.port"
ERROR_TYPE: Final[str] = "error.type"
MESSAGING_CLIENT_SENT_MESSAGES: Final[str] = "messaging.client.sent.messages"
MESSAGING_CLIENT_CONSUMED_MESSAGES: Final[str] = "messaging.client.consumed.messages"
MESSAGING_CLIENT_OPERATION_DURATION: Final[str] = "messaging.client.operation.duration"
MESSAGING_PROCESS_DURATION: Final[str] = "messaging.process.duration"
SERVICE_NAME: Final[str] = "service.name"
SERVICE_VERSION: Final[str] = "service.version"
SERVICE_INSTANCE_ID: Final[str] = "service.instance.id"
DEPLOYMENT_ENVIRONMENT_NAME: Final[str] = "deployment.environment.name"
TELEMETRY_DISTRO_NAME: Final[str] = "telemetry.distro.name"
TELEMETRY_DISTRO_VERSION: Final[str] = "telemetry.distro.version"
EXCEPTION_TYPE: Final[str] = "exception.type"
EXCEPTION_MESSAGE: Final[str] = "exception.message"
EXCEPTION_STACKTRACE: Final[str] = "exception.stacktrace"
OTEL_PIPELINE_DELIVERY_AGE: Final[str] = "otel_pipeline.delivery.age"
OTEL_PIPELINE_DATA_AGE: Final[str] = "otel_pipeline.data.age"
OTEL_PIPELINE_DATA_NEWEST_AGE: Final[str] = "otel_pipeline.data.newest_age"
OTEL_PIPELINE_DATA_INPUTS: Final[str] = "otel_pipeline.data.inputs"
OTEL_PIPELINE_HOPS: Final[str] = "otel_pipeline.hops"
OTEL_PIPELINE_ORIGIN_ENVIRONMENT: Final[str] = "otel_pipeline.origin.environment"
OTEL_PIPELINE_MODEL_NAME: Final[str] = "otel_pipeline.model.name"
OTEL_PIPELINE_MODEL_VERSION: Final[str] = "otel_pipeline.model.version"
OTEL_PIPELINE_MODEL_LIBRARY: Final[str] = "otel_pipeline.model.library"
OTEL_PIPELINE_INFERENCE_OPERATION: Final[str] = "otel_pipeline.inference.operation"
OTEL_PIPELINE_INFERENCE_ROWS: Final[str] = "otel_pipeline.inference.rows"
OTEL_PIPELINE_INFERENCE_DEVICE: Final[str] = "otel_pipeline.inference.device"
OTEL_PIPELINE_INFERENCE_DURATION: Final[str] = "otel_pipeline.inference.duration"
OTEL_PIPELINE_SDK_ERRORS: Final[str] = "otel_pipeline.sdk.errors"
OTEL_PIPELINE_SDK_DROPPED: Final[str] = "otel_pipeline.sdk.dropped"
OTEL_PIPELINE_PLACE: Final[str] = "otel_pipeline.place"
OTEL_PIPELINE_SIGNAL: Final[str] = "otel_pipeline.signal"

DURATION_BUCKETS_S: Final[tuple[float, ...]] = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
)
AGE_BUCKETS_S: Final[tuple[float, ...]] = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
    900,
    3600,
    21600,
    86400,
)
