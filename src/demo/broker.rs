//! An in-process broker for the demo and for tests: librdkafka's mock cluster, and a producer for it.
//!
//! Speaks Kafka's protocol on loopback, so the run that reads from it is the real one. It keeps 5 MiB per partition, knows no topic
//! ids, and finds no offsets by time.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::error::{Doing, Error, Result};
use crate::offsets::Partition;

/// How long the broker, which runs in this process, may take to store a call's records.
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// A broker of one topic that lives as long as the value.
pub(crate) struct DemoBroker {
    topic: String,
    producer: BaseProducer,
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl std::fmt::Debug for DemoBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DemoBroker").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A record to produce: partition, key, value (none is a tombstone), timestamp in ms since the epoch.
pub(crate) type DemoRecord<'a> = (Partition, &'a [u8], Option<&'a [u8]>, i64);

impl DemoBroker {
    /// Starts the broker and makes the topic.
    pub(crate) fn start(topic: &str, partitions: i32) -> Result<Self> {
        let doing = || format!("start the demo broker with topic `{topic}`");
        let cluster = MockCluster::new(1).doing(doing)?;
        cluster.create_topic(topic, partitions, 1).doing(doing)?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        config.set("linger.ms", "1"); // a call's records travel together, and the call does not wait for more
        config.set("enable.metrics.push", "false");
        let producer: BaseProducer = config.create().doing(doing)?;
        // What is queued before the producer knows the topic may be overtaken by what comes after.
        producer.client().fetch_metadata(Some(topic), FLUSH_MAX).doing(doing)?;
        Ok(Self { topic: topic.to_owned(), producer, cluster })
    }

    /// What `bootstrap.servers` of a job has to say.
    pub(crate) fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Stores records, in order per partition, and returns when they are stored.
    pub(crate) fn produce(&self, records: &[DemoRecord<'_>]) -> Result<()> {
        let doing = || format!("produce to the demo topic `{}`", self.topic);
        for &(partition, key, value, timestamp_ms) in records {
            let mut record = BaseRecord::to(&self.topic).partition(partition).key(key).timestamp(timestamp_ms);
            record.payload = value;
            self.producer.send(record).map_err(|(error, _)| Error::unavailable(doing(), error))?;
        }
        self.producer.flush(FLUSH_MAX).doing(doing)
    }

    /// The cluster itself, for tests that make it fail.
    #[cfg(test)]
    pub(crate) fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.cluster
    }
}
