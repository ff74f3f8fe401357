//! `[kafka]`: what is read, from where, and with which properties of librdkafka.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};

use super::nearest::nearest;
use super::properties::{self, Verdict};
use super::reader::{Section, Value};
use super::{KafkaConfig, OnDataLoss, Start, vocabulary};

const START_FORMS: &str =
    "`earliest`, `latest`, a time with its offset such as 2026-01-31T12:00:00Z, or offsets such as { \"0\" = 12 }";

pub(super) fn read(kafka: &Section<'_>) -> KafkaConfig {
    let topic = kafka.require("topic").and_then(|topic| topic.parsed(topic_name)).unwrap_or_default();
    let (properties, plain_secrets) = properties(kafka);
    KafkaConfig {
        topic,
        start: kafka.get("start").and_then(|value| start(&value)).unwrap_or(Start::Earliest),
        on_data_loss: kafka
            .get("on_data_loss")
            .and_then(|value| value.choice(vocabulary::ON_DATA_LOSS))
            .unwrap_or(OnDataLoss::Fail),
        mirror_group: kafka.get("mirror_group").and_then(|value| value.flag()).unwrap_or(true),
        properties,
        plain_secrets,
    }
}

/// Kafka's own rule for the names of topics.
fn topic_name(topic: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || matches!(topic, "." | "..") || !topic.chars().all(legal) {
        return Err(format!("`{topic}` is not a topic name: 1 to 249 letters, digits, `.`, `_` and `-`; one job reads one topic"));
    }
    Ok(topic.to_owned())
}

fn start(value: &Value<'_>) -> Option<Start> {
    if value.is_table() {
        return start_offsets(value);
    }
    let parsed = match value.datetime() {
        Some(datetime) => timestamp(&datetime),
        None if !value.is_text() => Err(format!("expected {START_FORMS}")),
        None => match value.text()?.as_str() {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            other => timestamp(other),
        },
    };
    parsed.map_err(|reason| value.mistake(format!("`{}`: {reason}", value.path))).ok()
}

fn timestamp(text: &str) -> Result<Start, String> {
    let Ok(time) = DateTime::parse_from_rfc3339(text.trim()) else {
        let advice = match nearest(text, ["earliest", "latest"]) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("expected {START_FORMS}"),
        };
        return Err(format!("`{text}` is not a place to start; {advice}"));
    };
    let millis = millis_at_or_after(&time);
    // To Kafka -1 and -2 mean "latest" and "earliest".
    if millis < 0 { Err(format!("`{text}` lies before 1970")) } else { Ok(Start::Timestamp(millis)) }
}

/// Kafka counts in ms: the first whole one at or after the time.
pub(crate) fn millis_at_or_after(time: &DateTime<FixedOffset>) -> i64 {
    let micros = time.timestamp_micros() + i64::from(!time.timestamp_subsec_nanos().is_multiple_of(1_000));
    micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) != 0)
}

fn start_offsets(value: &Value<'_>) -> Option<Start> {
    let entries = value.entries();
    let count = entries.len();
    let mut offsets = BTreeMap::new();
    for (key, offset) in entries {
        let partition = key.parse().ok().filter(|&partition: &i32| partition >= 0);
        if partition.is_none() {
            offset.mistake(format!("`{}`: `{key}` is not the number of a partition", value.path));
        }
        let offset = offset.count().and_then(|count| {
            let offset = i64::try_from(count).ok();
            if offset.is_none() {
                value.mistake(format!("`{}`: {count} is larger than any offset", value.path));
            }
            offset
        });
        if let (Some(partition), Some(offset)) = (partition, offset)
            && offsets.insert(partition, offset).is_some()
        {
            value.mistake(format!("`{}`: partition {partition} is given twice", value.path));
        }
    }
    (offsets.len() == count).then_some(Start::Offsets(offsets))
}

/// Every other key: a name with a dot, or one that librdkafka has without; and the names of those whose secret stands in the file.
fn properties(kafka: &Section<'_>) -> (BTreeMap<String, String>, Vec<String>) {
    let mut found = BTreeMap::new();
    let mut plain = Vec::new();
    let mut has_servers = false;
    for (name, value) in kafka.properties(vocabulary::keys("kafka")) {
        has_servers |= name == "bootstrap.servers";
        // Every name of librdkafka's but a few has a dot, so one without was meant to be one of ours.
        if !name.contains('.') && !properties::is_known(&name) && !matches!(properties::judge(&name, ""), Verdict::Refused(_)) {
            kafka.unknown(&name, value.at);
            continue;
        }
        let text = match name.as_str() {
            "bootstrap.servers" => value.name(),
            name if properties::may_be_elsewhere(name) => value.kept(),
            _ => value.property(),
        };
        if properties::is_secret(&name) && !properties::is_public(&name) && value.is_plain() {
            plain.push(name.clone());
        }
        match properties::judge(&name, text.as_deref().unwrap_or_default()) {
            Verdict::Refused(reason) => value.mistake(format!("`{name}` cannot be set in [kafka]: {reason}")),
            Verdict::Meant(meant) => {
                value.mistake(format!("librdkafka has no property `{name}`; did you mean `{meant}`?"));
                // One mistake, not two: the servers are there, only misspelt.
                has_servers |= meant == "bootstrap.servers";
            }
            // The servers stand in messages and logs. The value is not repeated.
            Verdict::Pass if name == "bootstrap.servers" && text.as_ref().is_some_and(|text| text.contains('@')) => {
                value.mistake(
                    "`bootstrap.servers` holds a `@`: a user and a password belong in `sasl.username` and `sasl.password`",
                );
            }
            Verdict::Pass => found.extend(text.map(|text| (name, text))),
        }
    }
    if !has_servers {
        kafka.missing("bootstrap.servers");
    }
    (found, plain)
}
