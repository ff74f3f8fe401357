//! Kafka through librdkafka.
