//! Why a record became no row: a stable reason, and a sentence with the field's path.
//!
//! Pure. Everything here is off the hot path: a fault is built once per bad record.

use std::fmt;

/// Longest piece of a record's own text that a detail repeats, in characters.
const EXCERPT_CHARS_MAX: usize = 60;

/// A record that became no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    /// Index into `Chunk::records`.
    pub(crate) record: u32,
    /// Why, for counting.
    pub(crate) reason: RejectReason,
    /// Why, for a person: names the field and what stood there.
    pub(crate) detail: String,
}

/// Why a record became no row. The names are a contract: they stand in the rejects table and in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RejectReason {
    /// The value is not one well-formed JSON text, or a field stands in it twice.
    Undecodable,
    /// A required field is absent or null.
    MissingField,
    /// A field's value does not fit its column.
    WrongType,
    /// A field has no column, and the job refuses such fields.
    UnknownField,
    /// The record has no value, and the job refuses such records.
    NullValue,
    /// The record has no id (or its key names none).
    NoId,
    /// The record has no event time.
    NoEventTime,
    /// The event time lies in the future.
    Future,
    /// The event time lies behind the watermark.
    Late,
}

impl RejectReason {
    /// The stable name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::MissingField => "missing-field",
            Self::WrongType => "wrong-type",
            Self::UnknownField => "unknown-field",
            Self::NullValue => "null-value",
            Self::NoId => "no-id",
            Self::NoEventTime => "no-event-time",
            Self::Future => "future",
            Self::Late => "late",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reject on its way up: each level of nesting that it passes adds its part of the path.
#[derive(Debug)]
pub(super) struct Fault {
    reason: RejectReason,
    path: String,
    what: String,
    /// Whether `what` names a byte position, to which a path would add nothing.
    at_byte: bool,
}

impl Fault {
    #[cold]
    pub(super) fn new(reason: RejectReason, what: impl Into<String>) -> Box<Self> {
        Box::new(Self { reason, path: String::new(), what: what.into(), at_byte: false })
    }

    #[cold]
    pub(super) fn syntax(at: usize, what: &str) -> Box<Self> {
        let what = format!("not JSON at byte {at}: {what}");
        Box::new(Self { reason: RejectReason::Undecodable, path: String::new(), what, at_byte: true })
    }

    /// A value that does not fit: `found` is its own text, `why` says more where the kind alone is not the reason.
    #[cold]
    pub(super) fn wrong(expected: &str, found: &str, why: &str) -> Box<Self> {
        let found = excerpt(found);
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        Self::new(RejectReason::WrongType, format!("should be {expected} but is {found}{why}"))
    }

    pub(super) fn reason(&self) -> RejectReason {
        self.reason
    }

    #[cold]
    pub(super) fn inside_field(self: Box<Self>, name: &str) -> Box<Self> {
        self.inside(&excerpt(name))
    }

    #[cold]
    pub(super) fn inside_index(self: Box<Self>, index: usize) -> Box<Self> {
        self.inside(&format!("[{index}]"))
    }

    #[cold]
    pub(super) fn inside_key(self: Box<Self>, key: &str) -> Box<Self> {
        self.inside(&format!("[\"{}\"]", excerpt(key)))
    }

    /// The sentence for a person.
    pub(super) fn detail(&self) -> String {
        if self.path.is_empty() { self.what.clone() } else { format!("`{}` {}", self.path, self.what) }
    }

    pub(super) fn reject(&self, record: u32) -> Reject {
        Reject { record, reason: self.reason, detail: self.detail() }
    }

    fn inside(mut self: Box<Self>, part: &str) -> Box<Self> {
        if !self.at_byte {
            let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
            self.path = format!("{part}{dot}{}", self.path);
        }
        self
    }
}

/// The beginning of a text, cut at a character and marked where it was cut.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_grows_from_the_inside() {
        let fault = Fault::wrong("long", "\"x\"", "").inside_field("n").inside_index(3).inside_field("tags").inside_field("a");
        assert_eq!(fault.detail(), "`a.tags[3].n` should be long but is \"x\"");
        let fault = Fault::new(RejectReason::MissingField, "is null").inside_key("k").inside_field("attrs");
        assert_eq!(fault.detail(), "`attrs[\"k\"]` is null");
        assert_eq!(Fault::wrong("an object", "5", "").detail(), "should be an object but is 5");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = "é".repeat(100);
        assert_eq!(excerpt(&long), format!("{}…", "é".repeat(60)));
        assert_eq!(excerpt(&long[..120]), "é".repeat(60));
    }

    #[test]
    fn reasons_have_stable_names() {
        use RejectReason::*;
        let all = [Undecodable, MissingField, WrongType, UnknownField, NullValue, NoId, NoEventTime, Future, Late];
        let names = all.map(RejectReason::as_str).join(" ");
        let expected = "undecodable missing-field wrong-type unknown-field null-value no-id no-event-time future late";
        assert_eq!(names, expected);
    }
}
