//! Which live data files can hold one of a batch's ids: the others are never opened.
//!
//! Pure. Decides by partition values, by the bounds of the id columns and by those of the event time, all from manifests. Leaves
//! a file out only where it is certain; what is missing or of another type than expected keeps the file in.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit};
use arrow::row::{RowConverter, SortField};
use iceberg::spec::{DataFile, Datum, Literal, NestedFieldRef, PrimitiveLiteral, PrimitiveType, Transform, Type};
use iceberg::transform::create_transform_function;

use crate::error::{Error, Result};
use crate::keys::{KeyCodec, KeyMap};
use crate::live::files::LiveFiles;

/// Ids tried one by one against a file's bounds before they are sorted: random ids end the search at once.
const PROBES: usize = 64;

/// What a batch's ids look like, column by column.
pub(crate) struct IdColumns {
    columns: Vec<(NestedFieldRef, ArrayRef, Option<Sorted>)>,
}

/// Values of one column that can be compared with bounds.
struct Sorted {
    values: Values,
    order: OnceLock<Vec<u32>>,
}

/// Values as bounds compare them.
enum Values {
    Numbers(Vec<i128>),
    Text(StringArray),
}

/// One value as bounds compare it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value<'a> {
    Number(i128),
    Text(&'a str),
}

impl IdColumns {
    /// The id columns in the codec's order, with the ids of a batch.
    pub(crate) fn new(fields: &[NestedFieldRef], ids: &[ArrayRef]) -> Self {
        let columns = fields.iter().cloned().zip(ids).map(|(field, array)| {
            let sorted = Values::of(array).map(|values| Sorted { values, order: OnceLock::new() });
            (field, Arc::clone(array), sorted)
        });
        Self { columns: columns.collect() }
    }

    /// Indexes of the live data files that can hold an id.
    pub(crate) fn candidates(&self, live: &LiveFiles) -> Vec<usize> {
        let transformed = self.transformed(live);
        let mut partitions: HashMap<i32, Vec<(usize, HashSet<Value<'_>>)>> = HashMap::new();
        let mut candidates = Vec::new();
        for (at, data) in live.data.iter().enumerate() {
            let wanted = partitions.entry(data.spec_id).or_insert_with(|| {
                transformed
                    .iter()
                    .filter(|(spec, ..)| *spec == data.spec_id)
                    .map(|(_, field, values)| (*field, (0..values.len()).map(|row| values.get(row)).collect()))
                    .collect()
            });
            if wanted.iter().all(|(field, values)| in_partition(data.file(), *field, values)) && self.in_bounds(data.file()) {
                candidates.push(at);
            }
        }
        candidates
    }

    /// Partition values of the ids, for every field of every spec that is a function of an id column.
    fn transformed(&self, live: &LiveFiles) -> Vec<(i32, usize, Values)> {
        let mut transformed = Vec::new();
        for spec in live.metadata.partition_specs_iter() {
            for (at, field) in spec.fields().iter().enumerate() {
                let Some((_, ids, _)) = self.columns.iter().find(|(column, ..)| column.id == field.source_id) else { continue };
                if matches!(field.transform, Transform::Void | Transform::Unknown) {
                    continue;
                }
                // The crate's overflows at the lowest numbers, and the column's own bounds say as much.
                if matches!((field.transform, ids.data_type()), (Transform::Truncate(_), DataType::Int32 | DataType::Int64)) {
                    continue;
                }
                // A transform that the crate cannot do prunes nothing.
                let values = create_transform_function(&field.transform).and_then(|transform| transform.transform(Arc::clone(ids)));
                if let Some(values) = values.ok().as_ref().and_then(Values::of) {
                    transformed.push((spec.spec_id(), at, values));
                }
            }
        }
        transformed
    }

    /// For each id column alone: whether any id lies within the file's bounds.
    fn in_bounds(&self, file: &DataFile) -> bool {
        self.columns.iter().all(|(field, _, sorted)| {
            let Some(sorted) = sorted else { return true };
            let (lower, upper) = (file.lower_bounds().get(&field.id), file.upper_bounds().get(&field.id));
            let (Some(lower), Some(upper)) = (lower.and_then(|d| bound(d, field)), upper.and_then(|d| bound(d, field))) else {
                return true;
            };
            sorted.any_within(&lower, &upper)
        })
    }

    /// The id columns.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &NestedFieldRef> {
        self.columns.iter().map(|(field, ..)| field)
    }

    /// For pairs of bounds of an id column: whether an id can lie within. None where the two cannot be compared.
    pub(crate) fn within(&self, field_id: i32, lower: &ArrayRef, upper: &ArrayRef) -> Option<Vec<bool>> {
        let (_, ids, sorted) = self.columns.iter().find(|(field, ..)| field.id == field_id)?;
        let same = |held: &DataType| held == ids.data_type() || (held, ids.data_type()) == (&DataType::Int32, &DataType::Int64);
        if !same(lower.data_type()) || !same(upper.data_type()) {
            return None;
        }
        let (sorted, lower, upper) = (sorted.as_ref()?, Values::of(lower)?, Values::of(upper)?);
        let within = |lower: Value<'_>, upper: Value<'_>| lower > upper || sorted.any_within(&lower, &upper);
        Some((0..lower.len()).map(|at| within(lower.get(at), upper.get(at))).collect())
    }
}

impl Sorted {
    fn any_within(&self, lower: &Value<'_>, upper: &Value<'_>) -> bool {
        let within = |value: &Value<'_>| value >= lower && value <= upper;
        if (0..self.values.len().min(PROBES)).any(|row| within(&self.values.get(row))) {
            return true;
        }
        let order = self.order.get_or_init(|| {
            let mut order: Vec<u32> = (0..u32::try_from(self.values.len()).expect("a batch has fewer than 2^32 ids")).collect();
            order.sort_unstable_by(|&a, &b| self.at(a).cmp(&self.at(b)));
            order
        });
        let first = order.partition_point(|&row| self.at(row).cmp(lower) == Ordering::Less);
        order.get(first).is_some_and(|&row| within(&self.at(row)))
    }

    fn at(&self, row: u32) -> Value<'_> {
        self.values.get(usize::try_from(row).expect("a row fits the address space"))
    }
}

impl Values {
    /// None for types whose order or equality is not that of numbers or text.
    fn of(array: &ArrayRef) -> Option<Self> {
        if array.null_count() > 0 {
            return None;
        }
        Some(match array.data_type() {
            DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => {
                let numbers = match array.data_type() {
                    // Dates do not cast to 64 bits directly.
                    DataType::Date32 => cast(&cast(array, &DataType::Int32).ok()?, &DataType::Int64).ok()?,
                    _ => cast(array, &DataType::Int64).ok()?,
                };
                Self::Numbers(numbers.as_primitive::<Int64Type>().values().iter().map(|&number| i128::from(number)).collect())
            }
            DataType::Decimal128(..) => Self::Numbers(array.as_primitive::<Decimal128Type>().values().to_vec()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            _ => return None,
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Text(text) => text.len(),
        }
    }

    fn get(&self, row: usize) -> Value<'_> {
        match self {
            Self::Numbers(numbers) => Value::Number(numbers[row]),
            Self::Text(text) => Value::Text(text.value(row)),
        }
    }
}

/// Whether the file's event times may reach `least`, which is in the column's unit.
pub(crate) fn reaches(file: &DataFile, event_time: &NestedFieldRef, least: i64) -> bool {
    match file.upper_bounds().get(&event_time.id).and_then(|upper| bound(upper, event_time)) {
        Some(Value::Number(upper)) => upper >= i128::from(least),
        _ => true,
    }
}

fn in_partition(file: &DataFile, field: usize, values: &HashSet<Value<'_>>) -> bool {
    match file.partition().fields().get(field) {
        Some(Some(Literal::Primitive(value))) => literal(value).is_none_or(|value| values.contains(&value)),
        // An id is never null, so it is never in the null partition.
        Some(None) => false,
        _ => true,
    }
}

/// A bound in the column's present type; none where the two cannot be compared.
fn bound<'a>(datum: &'a Datum, field: &NestedFieldRef) -> Option<Value<'a>> {
    let same = match (datum.data_type(), field.field_type.as_ref()) {
        (PrimitiveType::Int, Type::Primitive(PrimitiveType::Long)) => true,
        (PrimitiveType::Decimal { scale, .. }, Type::Primitive(PrimitiveType::Decimal { scale: now, .. })) => scale == now,
        (then, Type::Primitive(now)) => then == now,
        _ => false,
    };
    if same { literal(datum.literal()) } else { None }
}

fn literal(value: &PrimitiveLiteral) -> Option<Value<'_>> {
    match value {
        PrimitiveLiteral::Int(number) => Some(Value::Number(i128::from(*number))),
        PrimitiveLiteral::Long(number) => Some(Value::Number(i128::from(*number))),
        PrimitiveLiteral::Int128(number) => Some(Value::Number(*number)),
        PrimitiveLiteral::String(text) => Some(Value::Text(text)),
        _ => None,
    }
}

/// The ids of a batch from ordinal `first` on as columns again: the inverse of [`KeyCodec::encode`].
pub(crate) fn decode(codec: &KeyCodec, ids: &KeyMap, first: u32) -> Result<Vec<ArrayRef>> {
    let failed = |e: &dyn std::fmt::Display| Error::broken(format!("ids of a batch cannot be decoded: {e}"));
    let keys = (first..u32::try_from(ids.len()).map_err(|e| failed(&e))?).map(|at| ids.key(at));
    if codec.types() == [DataType::Utf8] {
        let texts = keys.map(std::str::from_utf8).collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
        return Ok(vec![Arc::new(StringArray::from_iter_values(texts))]);
    }
    let converter = RowConverter::new(codec.types().iter().cloned().map(SortField::new).collect()).map_err(|e| failed(&e))?;
    let parser = converter.parser();
    converter.convert_rows(keys.map(|key| parser.parse(key))).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, new_null_array};
    use iceberg::spec::NestedField;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// More ids than are tried one by one, so that the sorted search answers too.
        #[test]
        fn a_file_is_kept_exactly_when_an_id_lies_within_its_bounds(
            ids in proptest::collection::vec(0..2_000_i64, 0..200),
            lower in 0..2_000_i64,
            length in 0..40_i64,
        ) {
            let upper = lower + length;
            let expected = ids.iter().any(|id| (lower..=upper).contains(id));
            let text = |id: &i64| format!("{id:05}");
            let numbers: ArrayRef = Arc::new(Int64Array::from(ids.clone()));
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(text)));
            let sorted = |array| Sorted { values: Values::of(array).unwrap(), order: OnceLock::new() };
            let bounds = (Value::Number(lower.into()), Value::Number(upper.into()));
            prop_assert_eq!(sorted(&numbers).any_within(&bounds.0, &bounds.1), expected);
            let (lower, upper) = (text(&lower), text(&upper));
            prop_assert_eq!(sorted(&texts).any_within(&Value::Text(&lower), &Value::Text(&upper)), expected);
        }
    }

    /// Pages of 1 to 3, of 4 to 8, and one with bounds the wrong way round, which say nothing.
    #[test]
    fn bounds_of_pages_are_compared_with_ids_of_their_own_kind_only() {
        let of = |kind: &DataType, numbers: [i32; 3]| {
            let narrow: ArrayRef = Arc::new(Int32Array::from(numbers.to_vec()));
            let wide = cast(&narrow, &DataType::Int64).unwrap();
            cast(&narrow, kind).or_else(|_| cast(&wide, kind)).unwrap()
        };
        let field = Arc::new(NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)));
        let within = |ids: &DataType, lower: &ArrayRef, upper: &ArrayRef| {
            IdColumns::new(std::slice::from_ref(&field), &[of(ids, [2, 9, 2])]).within(1, lower, upper)
        };
        let time = |unit| DataType::Timestamp(unit, None);
        let kinds = [
            DataType::Int32,
            DataType::Int64,
            DataType::Date32,
            time(TimeUnit::Microsecond),
            time(TimeUnit::Nanosecond),
            DataType::Decimal128(9, 2),
            DataType::Decimal128(9, 3),
            DataType::Utf8,
            DataType::Float64,
            DataType::Boolean,
        ];
        for ids in &kinds {
            for bounds in &kinds {
                let (lower, upper) = (of(bounds, [1, 4, 7]), of(bounds, [3, 8, 6]));
                let is_ordered = !matches!(ids, DataType::Float64 | DataType::Boolean);
                let is_promoted = (bounds, ids) == (&DataType::Int32, &DataType::Int64);
                let expected = (is_ordered && (ids == bounds || is_promoted)).then_some(vec![true, false, true]);
                assert_eq!(within(ids, &lower, &upper), expected, "{ids} in {bounds}");
                let unknown = new_null_array(bounds, 3);
                assert_eq!(within(ids, &unknown, &upper), None, "{ids} in {bounds}");
            }
        }
    }

    #[test]
    fn decoding_is_the_inverse_of_encoding() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["b", "", "a\u{e9}"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![3, -1, i64::MIN]));
        for columns in [vec![Arc::clone(&texts)], vec![numbers, texts]] {
            let codec = KeyCodec::new(columns.iter().map(|column| column.data_type().clone()).collect()).unwrap();
            let keys = codec.encode(&columns).unwrap();
            let mut ids = KeyMap::default();
            for row in 0..3 {
                ids.insert(keys.get(row).unwrap());
            }
            assert_eq!(decode(&codec, &ids, 0).unwrap(), columns);
        }
    }
}
