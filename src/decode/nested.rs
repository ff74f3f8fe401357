//! Columns of any type, filled from a JSON text in one pass, nothing in between.
//!
//! Never leaves a column in the middle of a row without a way out: after a fault, `settle` completes the row that was begun, and
//! the caller takes it out at the end. So a bad record cannot shift or damage the rows around it.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use hashbrown::{HashMap, HashSet};
use iceberg::spec::{NestedField, NestedFieldRef, Type};

use super::fault::{Fault, RejectReason};
use super::json::{Json, check};
use super::leaf::{Leaf, Mismatch};
use crate::config::{FormatConfig, UnknownFields};
use crate::error::{Error, Result};

/// Entries of one map whose keys are compared pair by pair; more of them are hashed.
const PAIRWISE_MAX: usize = 16;

type Filled = std::result::Result<(), Box<Fault>>;

/// A growing column with its name: of the table, of a struct, or the inside of a list or map.
#[derive(Debug)]
pub(super) struct Slot {
    name: String,
    /// The name as it stands in JSON, with its quotes.
    quoted: Vec<u8>,
    required: bool,
    /// The type in the words of a fault.
    expected: String,
    /// Complete values.
    filled: usize,
    column: Column,
}

#[derive(Debug)]
enum Column {
    Leaf(Leaf),
    Struct(Box<StructColumn>),
    List(Box<ListColumn>),
    Map(Box<MapColumn>),
}

/// The fields of an object as columns.
#[derive(Debug)]
pub(super) struct StructColumn {
    slots: Vec<Slot>,
    by_name: HashMap<String, usize>,
    /// Which slot the field at each place of the last object went to: producers keep their order.
    order: Vec<usize>,
    refuse_unknown: bool,
    rows: usize,
    valid: NullBufferBuilder,
    fields: Fields,
}

#[derive(Debug)]
struct ListColumn {
    element: Slot,
    /// Elements begun, which may be one more than the slot has filled.
    begun: usize,
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
    field: FieldRef,
}

#[derive(Debug)]
struct MapColumn {
    key: Leaf,
    key_type: String,
    value: Slot,
    /// Entries begun, of which the last may lack its value.
    begun: usize,
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
    entries: FieldRef,
    key_value: Fields,
}

impl Slot {
    /// For an Iceberg field that Arrow holds as `arrow`.
    pub(super) fn new(field: &NestedField, arrow: &FieldRef, format: &FormatConfig) -> Result<Self> {
        let (column, expected) = match (&*field.field_type, arrow.data_type()) {
            (Type::Primitive(of), data_type) => (Column::Leaf(Leaf::new(of, data_type, format.epoch_unit)?), of.to_string()),
            (Type::Struct(of), DataType::Struct(fields)) => {
                (Column::Struct(Box::new(StructColumn::new(of.fields(), fields, format)?)), "an object".into())
            }
            (Type::List(of), DataType::List(element)) => {
                let element_slot = Self::new(&of.element_field, element, format)?;
                (Column::List(Box::new(ListColumn::new(element_slot, element))), "an array".into())
            }
            (Type::Map(of), DataType::Map(entries, _)) => {
                (Column::Map(Box::new(MapColumn::new(&of.key_field, &of.value_field, entries, format)?)), "an object".into())
            }
            (of, data_type) => return Err(Error::broken(format!("`{}` of type {of} became {data_type} in Arrow", field.name))),
        };
        Ok(Self {
            name: field.name.clone(),
            quoted: serde_json::to_vec(&field.name).expect("a string is always JSON"),
            required: field.required,
            expected,
            filled: 0,
            column,
        })
    }

    /// Adds the column's name to the path of a fault.
    #[cold]
    pub(super) fn inside(&self, fault: Box<Fault>) -> Box<Fault> {
        fault.inside_field(&self.name)
    }

    /// Appends the value that stands next.
    #[inline]
    pub(super) fn fill(&mut self, json: &mut Json<'_>) -> Filled {
        let first = json.peek();
        match (&mut self.column, first) {
            (_, b'n') => {
                json.word("null")?;
                return self.fill_null("is null");
            }
            (Column::Leaf(leaf), first) if first != b'{' && first != b'[' => {
                let start = json.at();
                let pushed = leaf.push(json.scalar()?);
                if let Err(why) = pushed {
                    return Err(json.wrong(start, &self.expected, why));
                }
            }
            (Column::Struct(column), b'{') => column.fill(json)?,
            (Column::List(column), b'[') => column.fill(json)?,
            (Column::Map(column), b'{') => column.fill(json)?,
            _ => return Err(json.wrong(json.at(), &self.expected, "")),
        }
        self.filled += 1;
        Ok(())
    }

    /// Appends null, or refuses it: `what` says how the value came to be missing.
    pub(super) fn fill_null(&mut self, what: &str) -> Filled {
        if self.required {
            return Err(Fault::new(RejectReason::MissingField, what));
        }
        self.push_null();
        Ok(())
    }

    /// Appends to a primitive column; a mismatch appends nothing.
    pub(super) fn fill_leaf(&mut self, push: impl FnOnce(&mut Leaf) -> std::result::Result<(), Mismatch>, found: &str) -> Filled {
        let Column::Leaf(leaf) = &mut self.column else { return Err(Fault::wrong(&self.expected, found, "")) };
        push(leaf).map_err(|why| Fault::wrong(&self.expected, found, why))?;
        self.filled += 1;
        Ok(())
    }

    /// Appends to a map column whose keys and values are texts or bytes.
    pub(super) fn fill_map<'b>(&mut self, entries: impl Iterator<Item = (&'b [u8], Option<&'b [u8]>)>) -> Filled {
        let Column::Map(map) = &mut self.column else { return Err(Fault::wrong(&self.expected, "a map", "")) };
        map.fill_bytes(entries)?;
        self.filled += 1;
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.column {
            Column::Leaf(leaf) => leaf.push_null(),
            Column::Struct(column) => column.push_null(),
            Column::List(column) => close(&mut column.offsets, column.begun, &mut column.valid, false),
            Column::Map(column) => close(&mut column.offsets, column.begun, &mut column.valid, false),
        }
        self.filled += 1;
    }

    /// Completes the row that was begun, if one was, so that the slot has `rows` values.
    pub(super) fn settle(&mut self, rows: usize) {
        if self.filled == rows {
            return;
        }
        match &mut self.column {
            Column::Leaf(leaf) => leaf.push_filler(),
            Column::Struct(column) => column.settle(rows),
            Column::List(column) => {
                column.element.settle(column.begun);
                close(&mut column.offsets, column.begun, &mut column.valid, true);
            }
            Column::Map(column) => {
                column.value.settle(column.begun);
                close(&mut column.offsets, column.begun, &mut column.valid, true);
            }
        }
        self.filled += 1;
        assert_eq!(self.filled, rows, "a fault leaves at most one row begun in `{}`", self.name);
    }

    pub(super) fn reserve(&mut self, rows: usize, bytes_max: usize) {
        match &mut self.column {
            Column::Leaf(leaf) => leaf.reserve(rows, bytes_max),
            Column::Struct(column) => column.reserve(rows, bytes_max),
            Column::List(_) | Column::Map(_) => (),
        }
    }

    /// The column, which is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
        self.filled = 0;
        match &mut self.column {
            Column::Leaf(leaf) => leaf.finish(),
            Column::Struct(column) => column.finish(),
            Column::List(column) => column.finish(),
            Column::Map(column) => column.finish(),
        }
    }
}

impl StructColumn {
    /// For fields that Arrow holds as `arrow`, in the same order.
    pub(super) fn new(fields: &[NestedFieldRef], arrow: &Fields, format: &FormatConfig) -> Result<Self> {
        let slots: Vec<_> =
            fields.iter().zip(arrow).map(|(field, arrow)| Slot::new(field, arrow, format)).collect::<Result<_>>()?;
        let by_name = slots.iter().enumerate().map(|(at, slot)| (slot.name.clone(), at)).collect();
        Ok(Self {
            order: (0..slots.len()).collect(),
            slots,
            by_name,
            refuse_unknown: format.unknown_fields == UnknownFields::Reject,
            rows: 0,
            valid: NullBufferBuilder::new(0),
            fields: arrow.clone(),
        })
    }

    /// Makes room for about `rows` rows like those before, in no column for more than `bytes_max` bytes of text.
    pub(super) fn reserve(&mut self, rows: usize, bytes_max: usize) {
        self.slots.iter_mut().for_each(|slot| slot.reserve(rows, bytes_max));
    }

    /// Appends one row of a single column.
    ///
    /// # Panics
    /// When there are no columns.
    pub(super) fn fill_only(&mut self, fill: impl FnOnce(&mut Slot) -> Filled) -> Filled {
        let slot = &mut self.slots[0];
        fill(slot).map_err(|fault| slot.inside(fault))?;
        self.rows += 1;
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends the object that `text` is as one row. What is not JSON at all is said before what does not fit.
    #[inline]
    pub(super) fn fill_text(&mut self, text: &str, scratch: &mut String) -> Filled {
        let mut json = Json::new(text, scratch);
        let filled = if json.peek() == b'{' { self.fill(&mut json) } else { Err(json.wrong(json.at(), "an object", "")) };
        match filled {
            Ok(()) => json.end(),
            Err(fault) if fault.reason() == RejectReason::Undecodable => Err(fault),
            Err(fault) => check(text, scratch).and(Err(fault)),
        }
    }

    /// Appends the object that stands next as one row.
    fn fill(&mut self, json: &mut Json<'_>) -> Filled {
        json.open()?;
        let mut place = 0;
        let mut found = 0;
        while json.more(place == 0, b'}')? {
            let guess = self.order.get(place).copied();
            let at = match guess {
                Some(at) if json.take_key(&self.slots[at].quoted)? => Some(at),
                _ => self.find(json, place)?,
            };
            place += 1;
            let Some(at) = at else {
                json.skip()?;
                continue;
            };
            let slot = &mut self.slots[at];
            if slot.filled > self.rows {
                return Err(Fault::new(RejectReason::Undecodable, "stands twice in one object").inside_field(&slot.name));
            }
            slot.fill(json).map_err(|fault| fault.inside_field(&slot.name))?;
            found += 1;
        }
        if found < self.slots.len() {
            self.fill_absent()?;
        }
        self.rows += 1;
        self.valid.append_non_null();
        Ok(())
    }

    /// The slot of the field name that stands next; none where there is no column for it.
    fn find(&mut self, json: &mut Json<'_>, place: usize) -> std::result::Result<Option<usize>, Box<Fault>> {
        let name = json.key()?;
        let at = self.by_name.get(name).copied();
        if at.is_none() && self.refuse_unknown {
            return Err(Fault::new(RejectReason::UnknownField, "has no column").inside_field(name));
        }
        if let (Some(at), Some(guess)) = (at, self.order.get_mut(place)) {
            *guess = at;
        } else if let Some(at) = at.filter(|_| place < self.slots.len() * 2) {
            // Unknown fields push known ones to later places; objects of nothing but noise must not make this grow.
            self.order.resize(place, at);
            self.order.push(at);
        }
        json.colon()?;
        Ok(at)
    }

    fn fill_absent(&mut self) -> Filled {
        for slot in &mut self.slots {
            if slot.filled == self.rows {
                slot.fill_null("is missing").map_err(|fault| fault.inside_field(&slot.name))?;
            }
        }
        Ok(())
    }

    fn push_null(&mut self) {
        self.slots.iter_mut().for_each(Slot::push_null);
        self.rows += 1;
        self.valid.append_null();
    }

    /// Completes the row that was begun, if one was, so that there are `rows` rows.
    pub(super) fn settle(&mut self, rows: usize) {
        self.slots.iter_mut().for_each(|slot| slot.settle(rows));
        if self.rows < rows {
            self.rows += 1;
            self.valid.append_non_null();
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.slots.iter_mut().map(Slot::finish).collect();
        let array = StructArray::try_new_with_length(self.fields.clone(), columns, self.valid.finish(), rows);
        Arc::new(array.expect("fields were filled by their own types, one value per row"))
    }

    /// The columns one by one; all are empty afterwards.
    pub(super) fn finish_columns(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.valid = NullBufferBuilder::new(0);
        self.slots.iter_mut().map(Slot::finish).collect()
    }
}

impl ListColumn {
    fn new(element: Slot, field: &FieldRef) -> Self {
        Self { element, begun: 0, offsets: vec![0], valid: NullBufferBuilder::new(0), field: Arc::clone(field) }
    }

    fn fill(&mut self, json: &mut Json<'_>) -> Filled {
        json.open()?;
        let first = self.begun;
        while json.more(self.begun == first, b']')? {
            self.begun += 1;
            self.element.fill(json).map_err(|fault| fault.inside_index(self.begun - 1 - first))?;
        }
        close(&mut self.offsets, self.begun, &mut self.valid, true);
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        self.begun = 0;
        let (offsets, valid) = finish_offsets(&mut self.offsets, &mut self.valid);
        let array = ListArray::try_new(Arc::clone(&self.field), offsets, self.element.finish(), valid);
        Arc::new(array.expect("elements were filled by their own type"))
    }
}

impl MapColumn {
    fn new(key: &NestedField, value: &NestedField, entries: &FieldRef, format: &FormatConfig) -> Result<Self> {
        let (Type::Primitive(of), DataType::Struct(fields)) = (&*key.field_type, entries.data_type()) else {
            return Err(Error::setup(
                format!("a map with keys of type {} cannot be filled from JSON", key.field_type),
                "the fields of a JSON object can only become keys of a primitive type",
            ));
        };
        let [key_field, value_field] = &**fields else {
            return Err(Error::broken(format!("a map has {} fields in Arrow", fields.len())));
        };
        Ok(Self {
            key: Leaf::new(of, key_field.data_type(), format.epoch_unit)?,
            key_type: of.to_string(),
            value: Slot::new(value, value_field, format)?,
            begun: 0,
            offsets: vec![0],
            valid: NullBufferBuilder::new(0),
            entries: Arc::clone(entries),
            key_value: fields.clone(),
        })
    }

    fn fill(&mut self, json: &mut Json<'_>) -> Filled {
        json.open()?;
        let first = self.begun;
        while json.more(self.begun == first, b'}')? {
            let key_at = json.at();
            let key = json.key()?;
            if let Err(why) = self.key.push_text(key) {
                return Err(Fault::wrong(&self.key_type, &format!("{key:?}"), why).inside_key(key));
            }
            self.begun += 1;
            json.colon()?;
            if let Err(fault) = self.value.fill(json) {
                return Err(fault.inside_key(&json.key_again(key_at)));
            }
        }
        self.refuse_twins(first)?;
        close(&mut self.offsets, self.begun, &mut self.valid, true);
        Ok(())
    }

    fn fill_bytes<'b>(&mut self, entries: impl Iterator<Item = (&'b [u8], Option<&'b [u8]>)>) -> Filled {
        for (key, value) in entries {
            let name = || String::from_utf8_lossy(key);
            if let Err(why) = self.key.push_bytes(key) {
                return Err(Fault::wrong(&self.key_type, &format!("{:?}", name()), why).inside_key(&name()));
            }
            self.begun += 1;
            let filled = match value {
                Some(value) => self.value.fill_leaf(|leaf| leaf.push_bytes(value), "these bytes"),
                None => self.value.fill_null("is null"),
            };
            filled.map_err(|fault| fault.inside_key(&name()))?;
        }
        close(&mut self.offsets, self.begun, &mut self.valid, true);
        Ok(())
    }

    /// Two keys of one map must differ as values: `1` and `1.0` are the same int.
    fn refuse_twins(&self, first: usize) -> Filled {
        let keys = || (first..self.begun).map(|at| self.key.value(at));
        let twins = if self.begun - first <= PAIRWISE_MAX {
            keys().enumerate().any(|(at, key)| keys().take(at).any(|other| other == key))
        } else {
            let mut seen = HashSet::with_capacity(self.begun - first);
            !keys().all(|key| seen.insert(key))
        };
        if twins { Err(Fault::new(RejectReason::Undecodable, "has the same key twice")) } else { Ok(()) }
    }

    fn finish(&mut self) -> ArrayRef {
        let entries = StructArray::try_new_with_length(
            self.key_value.clone(),
            vec![self.key.finish(), self.value.finish()],
            None,
            std::mem::take(&mut self.begun),
        );
        let (offsets, valid) = finish_offsets(&mut self.offsets, &mut self.valid);
        let entries = entries.expect("keys and values were filled by their own types, one value per key");
        let array = MapArray::try_new(Arc::clone(&self.entries), offsets, entries, valid, false);
        Arc::new(array.expect("entries were filled by their own type"))
    }
}

/// Ends a row of a list or map, whose entries end at `end`.
fn close(offsets: &mut Vec<i32>, end: usize, valid: &mut NullBufferBuilder, is_valid: bool) {
    offsets.push(i32::try_from(end).expect("every entry takes a byte, and a chunk has less than 2 GiB"));
    valid.append(is_valid);
}

fn finish_offsets(offsets: &mut Vec<i32>, valid: &mut NullBufferBuilder) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
    (OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0]))), valid.finish())
}
