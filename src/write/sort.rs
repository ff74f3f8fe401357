//! The table's sort order applied to rows.
//!
//! Pure. The sort is stable, so rows that the order does not tell apart keep theirs.

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::row::{RowConverter, SortField};
use iceberg::spec::{NullOrder, SchemaRef, SortDirection, SortOrder};

use crate::error::{Error, Result};
use crate::write::transforms::Transforms;

/// Sorts by one order that is not unsorted.
#[derive(Debug)]
pub(super) struct Sorter {
    transforms: Transforms,
    converter: RowConverter,
}

impl Sorter {
    /// For an order over columns of `schema`.
    pub(super) fn new(schema: &SchemaRef, order: &SortOrder) -> Result<Self> {
        let fields: Vec<_> = order.fields.iter().map(|field| (field.source_id, field.transform)).collect();
        let transforms = Transforms::new(schema, &fields)?;
        let unfit = |e: String| Error::setup(format!("sort order {} cannot be used: {e}", order.order_id), "");
        let mut sort = Vec::with_capacity(fields.len());
        for field in &order.fields {
            let source = schema.field_by_id(field.source_id).ok_or_else(|| unfit(format!("no column {}", field.source_id)))?;
            let kind = field.transform.result_type(&source.field_type).map_err(|e| unfit(e.to_string()))?;
            let options = SortOptions {
                descending: field.direction == SortDirection::Descending,
                nulls_first: field.null_order == NullOrder::First,
            };
            let kind = iceberg::arrow::type_to_arrow_type(&kind).map_err(|e| unfit(e.to_string()))?;
            sort.push(SortField::new_with_options(kind, options));
        }
        let converter = RowConverter::new(sort).map_err(|e| unfit(e.to_string()))?;
        Ok(Self { transforms, converter })
    }

    /// Sorts each list of rows of the batch.
    pub(super) fn sort<'a>(&self, batch: &RecordBatch, lists: impl Iterator<Item = &'a mut Vec<u32>>) -> Result<()> {
        let values = self.transforms.evaluate(batch)?;
        let keys = self.converter.convert_columns(&values).map_err(|e| Error::broken(format!("sort values: {e}")))?;
        for rows in lists {
            rows.sort_by(|&a, &b| keys.row(a as usize).cmp(&keys.row(b as usize)));
        }
        Ok(())
    }
}
