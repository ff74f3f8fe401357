//! Articles of the reference workload, in the shape that `scripts/workload.py` gives them. The same calls give the same bytes.

use std::sync::{Arc, LazyLock};

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use chrono::{DateTime, SecondsFormat};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{NestedField, PrimitiveType, Schema, SchemaRef, Type};

use crate::source::{Chunk, Record, Span};

const SEED: u64 = 1;
/// 2025-03-01T00:00:00Z
const START_MS: i64 = 1_740_787_200_000;
const TEXT_LENGTH: usize = 1 << 20;
const TITLE_LENGTH: usize = 50;
const CONTENT_LENGTH: usize = 400;

/// The table of `jobs/articles.toml`.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |id, name: &str, kind, required| Arc::new(NestedField::new(id, name, Type::Primitive(kind), required));
    let fields = [
        field(1, "id", PrimitiveType::String, true),
        field(2, "title", PrimitiveType::String, false),
        field(3, "source", PrimitiveType::String, false),
        field(4, "url", PrimitiveType::String, false),
        field(5, "content", PrimitiveType::String, false),
        field(6, "published_at", PrimitiveType::Timestamptz, true),
        field(7, "version", PrimitiveType::Long, false),
    ];
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
});

pub(super) fn arrow_schema() -> ArrowSchemaRef {
    Arc::new(schema_to_arrow_schema(&SCHEMA).unwrap())
}

/// One version of an article.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edition {
    pub(super) number: u64,
    version: i64,
    published_ms: i64,
}

impl Edition {
    /// The first of an article. A day has room for ten million.
    pub(super) fn first(number: u64) -> Self {
        Self { number, version: 1, published_ms: START_MS + i64::try_from(number / 116).unwrap() }
    }

    /// An odd factor maps numbers to ids one to one, and neighbours far from each other.
    fn id(self) -> String {
        format!("{:016x}", self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn json(self) -> String {
        let (id, source) = (self.id(), format!("source-{:02}.example", self.number % 40));
        let at = usize::try_from(self.number * 7_919).unwrap() % TEXT_LENGTH;
        let (title, content) = (&PROSE[at..at + TITLE_LENGTH], &PROSE[at..at + CONTENT_LENGTH]);
        let published = DateTime::from_timestamp_millis(self.published_ms).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true);
        format!(
            r#"{{"id":"{id}","title":"{title}","source":"{source}","url":"https://{source}/news/{id}","content":"{content}","published_at":"{published}","version":{}}}"#,
            self.version
        )
    }
}

/// First editions of as many articles, as the pull hands them on.
pub fn chunk(count: u32) -> Chunk {
    let mut chunk = Chunk::default();
    for offset in 0..count {
        let value = Some(chunk.push_bytes(Edition::first(offset.into()).json().as_bytes()));
        chunk.records.push(Record {
            partition: 0,
            offset: offset.into(),
            timestamp_ms: None,
            broker_time: false,
            key: None,
            value,
            headers: Span::default(),
        });
    }
    chunk
}

/// As many editions, in the order of a topic: a tenth came before as they are, a tenth are newer versions of earlier articles.
pub(super) fn editions(count: usize) -> Vec<Edition> {
    let mut chance = Chance(SEED);
    let mut made: Vec<Edition> = Vec::with_capacity(count);
    let mut articles = 0;
    for at in 0..count {
        let next = Edition::first(articles);
        made.push(match chance.below(10) {
            0 if at > 0 => made[chance.below(at)],
            1 if at > 0 => {
                let earlier = made[chance.below(at)];
                Edition { number: earlier.number, version: earlier.version + 1, ..next }
            }
            _ => {
                articles += 1;
                next
            }
        });
    }
    made
}

/// The columns that say which article a row is, and which version of it.
pub(super) fn versions(editions: &[Edition]) -> RecordBatch {
    let schema = arrow_schema().project(&[0, 5, 6]).unwrap();
    let ids = StringArray::from_iter_values(editions.iter().map(|edition| edition.id()));
    let times = TimestampMicrosecondArray::from_iter_values(editions.iter().map(|edition| edition.published_ms * 1_000));
    let versions = Int64Array::from_iter_values(editions.iter().map(|edition| edition.version));
    RecordBatch::try_new(schema.into(), vec![Arc::new(ids), Arc::new(times.with_timezone("+00:00")), Arc::new(versions)]).unwrap()
}

/// Text that compresses about as well as news does: a vocabulary with a skewed distribution.
static PROSE: LazyLock<String> = LazyLock::new(|| {
    const LETTERS: &[u8] = b"etaoinshrdlucmfwypvbgk";
    const WORDS: usize = 4_000;
    let mut chance = Chance(SEED);
    let words: Vec<String> =
        (0..WORDS).map(|_| (0..2 + chance.below(9)).map(|_| char::from(LETTERS[chance.below(LETTERS.len())])).collect()).collect();
    let mut text = String::new();
    while text.len() < TEXT_LENGTH + CONTENT_LENGTH {
        // The cube of a number below one.
        let drawn = chance.below(1 << 16);
        text.push_str(&words[(WORDS * drawn * drawn * drawn) >> 48]);
        text.push(' ');
    }
    text
});

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from(mixed ^ (mixed >> 31)).unwrap() % end
    }
}
