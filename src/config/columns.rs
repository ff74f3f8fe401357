//! Checks across tables of the job file: every column that the job names exists in `[table] columns` and has a fitting type.
//!
//! Pure. Where the job file gives no columns there is nothing to check here: `check` and `run` compare with the table itself.

use iceberg::spec::{PrimitiveType, Transform, Type};

use super::MetadataKind;
use super::nearest::{listed, nearest};
use super::origin::At;
use super::reader::Reader;

/// The columns as far as the file tells them.
#[derive(Default)]
pub(super) struct Columns {
    /// Name and, where it could be read, type of each.
    pub(super) found: Vec<(String, Option<Type>)>,
    /// Whether an entry had no readable name, so that a missing column may be that one.
    pub(super) incomplete: bool,
}

/// One place where the job names a column.
pub(super) struct ColumnUse {
    pub(super) column: String,
    pub(super) at: At,
    /// Path of the key, as in `merge.id`.
    pub(super) by: String,
    pub(super) wants: Wants,
}

/// What a place needs of its column.
pub(super) enum Wants {
    /// Values that can be compared.
    Comparable,
    /// A date or a timestamp.
    Time,
    /// True or false.
    Flag,
    /// What a metadata column holds.
    Metadata(MetadataKind),
    /// What a transform takes.
    Transform(Transform),
}

/// Notes every use that does not fit.
pub(super) fn check(reader: &Reader<'_>, columns: &Columns, uses: &[ColumnUse]) {
    if columns.found.is_empty() || columns.incomplete {
        return;
    }
    for one in uses {
        let nested = matches!(one.wants, Wants::Transform(_));
        match columns.find(&one.column, nested) {
            None => reader.mistake(Some(one.at), columns.missing(one)),
            Some(None) => (),
            Some(Some(found)) => {
                if let Some(wanted) = unfit(&one.wants, found) {
                    let message = format!("`{}`: column `{}` has type {found}, but must be {wanted}", one.by, one.column);
                    reader.mistake(Some(one.at), message);
                }
            }
        }
    }
}

impl Columns {
    /// The type of a column, or of a field inside of one as in `a.b`.
    fn find(&self, path: &str, nested: bool) -> Option<Option<&Type>> {
        if let Some((_, found)) = self.found.iter().find(|(name, _)| name == path) {
            return Some(found.as_ref());
        }
        let (name, inside) = path.split_once('.').filter(|_| nested)?;
        let (_, found) = self.found.iter().find(|(other, _)| other == name)?;
        let Some(mut found) = found.as_ref() else { return Some(None) };
        for name in inside.split('.') {
            let Type::Struct(fields) = found else { return None };
            found = &fields.field_by_name(name)?.field_type;
        }
        Some(Some(found))
    }

    fn missing(&self, one: &ColumnUse) -> String {
        let names: Vec<&str> = self.found.iter().map(|(name, _)| name.as_str()).collect();
        let advice = match nearest(&one.column, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("columns are {}", listed(&names, "and")),
        };
        format!("`{}`: `{}` is not a column of [table]; {advice}", one.by, one.column)
    }
}

/// What is wanted instead of this type, if it does not fit.
fn unfit(wants: &Wants, found: &Type) -> Option<String> {
    use PrimitiveType as P;
    let Type::Primitive(primitive) = found else { return unfit_nested(wants, found) };
    let (fits, wanted) = match wants {
        Wants::Comparable => (true, ""),
        Wants::Time => (
            matches!(primitive, P::Date | P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs),
            "a date or a timestamp",
        ),
        Wants::Flag => (*primitive == P::Boolean, "a boolean to say whether the row is deleted"),
        Wants::Metadata(MetadataKind::Topic) => (*primitive == P::String, "a string to hold the topic"),
        Wants::Metadata(MetadataKind::Partition) => {
            (matches!(primitive, P::Int | P::Long), "an int or a long to hold the partition")
        }
        Wants::Metadata(MetadataKind::Offset) => (*primitive == P::Long, "a long to hold the offset"),
        Wants::Metadata(MetadataKind::Timestamp) => {
            (matches!(primitive, P::Timestamp | P::Timestamptz), "a timestamptz or a timestamp to hold the timestamp")
        }
        Wants::Metadata(MetadataKind::Key) => (matches!(primitive, P::Binary | P::String), "binary or a string to hold the key"),
        Wants::Metadata(MetadataKind::Headers) => (false, "a map<string, binary> to hold the headers"),
        Wants::Metadata(MetadataKind::Sha256) => {
            (matches!(primitive, P::String | P::Binary | P::Fixed(32)), "a string, binary or fixed(32) to hold the hash")
        }
        Wants::Transform(transform) => return unfit_transform(*transform, found),
    };
    (!fits).then(|| wanted.to_owned())
}

fn unfit_nested(wants: &Wants, found: &Type) -> Option<String> {
    match wants {
        Wants::Comparable => Some(String::from("of a primitive type")),
        Wants::Transform(transform) => unfit_transform(*transform, found),
        Wants::Metadata(MetadataKind::Headers) if is_headers(found) => None,
        // Any primitive type that does not fit either brings up the right sentence.
        Wants::Time | Wants::Metadata(_) => unfit(wants, &Type::Primitive(PrimitiveType::Boolean)),
        Wants::Flag => unfit(wants, &Type::Primitive(PrimitiveType::String)),
    }
}

fn is_headers(found: &Type) -> bool {
    let Type::Map(map) = found else { return false };
    *map.key_field.field_type == Type::Primitive(PrimitiveType::String)
        && *map.value_field.field_type == Type::Primitive(PrimitiveType::Binary)
}

fn unfit_transform(transform: Transform, found: &Type) -> Option<String> {
    let taken = match transform {
        _ if transform.result_type(found).is_ok() => return None,
        Transform::Year | Transform::Month | Transform::Day => "a date or a timestamp",
        Transform::Hour => "a timestamp",
        Transform::Truncate(_) => "an int, long, decimal, string or binary",
        Transform::Bucket(_) => "an int, long, decimal, date, time, timestamp, string, uuid, fixed or binary",
        _ => "of a primitive type",
    };
    Some(format!("{taken} for this transform"))
}
