//! A Kafka broker inside the test's process: librdkafka's mock cluster. The program under test connects to it as to any other.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

/// What jobs read unless they say otherwise.
pub(crate) const TOPIC: &str = "tide";

pub(crate) struct Broker {
    producer: BaseProducer,
    pub(crate) cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// With the topic [`TOPIC`] of two partitions.
    pub(crate) fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 2, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("linger.ms", "0");
        Self { producer: config.create().unwrap(), cluster }
    }

    pub(crate) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Appends values to a partition of [`TOPIC`] and returns when they are there.
    pub(crate) fn produce(&self, partition: i32, values: &[&str]) {
        self.produce_to(TOPIC, partition, values);
    }

    /// The same for any topic.
    pub(crate) fn produce_to(&self, topic: &str, partition: i32, values: &[&str]) {
        // What is queued before the producer knows the topic may be overtaken by what comes after.
        self.producer.client().fetch_metadata(Some(topic), Duration::from_secs(60)).unwrap();
        for value in values {
            let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value).timestamp(1_735_689_600_000);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// Three articles in two partitions, one of them in two versions.
    pub(crate) fn with_articles() -> Self {
        let broker = Self::start();
        broker.produce(
            0,
            &[
                r#"{"id": "a", "at": "2025-01-01T00:00:00Z", "title": "first"}"#,
                r#"{"id": "a", "at": "2025-01-01T01:00:00Z", "title": "second"}"#,
                r#"{"id": "b", "at": "2025-01-01T00:30:00Z", "title": "only"}"#,
            ],
        );
        broker.produce(1, &[r#"{"id": "c", "at": "2025-01-01T02:00:00Z", "title": "other"}"#]);
        broker
    }
}
