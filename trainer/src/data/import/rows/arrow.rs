//! Parquet columns as cells, of whatever type the writer chose.

use super::super::super::findings::Findings;
use super::super::super::parquet;
use super::{At, Cell, TakeRow, position};
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use std::path::Path;

/// Calls `row` with the cells of the columns `wanted`.
///
/// # Errors
/// As [`super::RowFile::read`]; a column of a type that is not read.
pub fn read(
    path: &Path,
    wanted: &[&str],
    findings: &mut Findings,
    row: &mut TakeRow,
) -> Result<()> {
    let schema = parquet::schema(path)?;
    let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    for w in wanted {
        position(path, &names, w)?;
    }
    parquet::batches(
        path,
        |name| wanted.contains(&name),
        |batch, first| {
            let columns: Vec<Column> = wanted
                .iter()
                .filter_map(|w| batch.column_by_name(w))
                .zip(wanted)
                .map(|(array, name)| Column::new(path, array, name))
                .collect::<Result<_>>()?;
            let mut cells = Vec::with_capacity(columns.len());
            for i in 0..batch.num_rows() {
                cells.clear();
                cells.extend(columns.iter().map(|c| c.cell(i)));
                row(findings, At { path, unit: "row", number: first + i as u64 }, &cells)?;
            }
            Ok(())
        },
    )
}

/// A column; of a dictionary also its values, and which of them each row has.
struct Column<'a> {
    array: &'a ArrayRef,
    dictionary: Option<(&'a ArrayRef, Vec<usize>)>,
}

impl<'a> Column<'a> {
    fn new(path: &Path, array: &'a ArrayRef, name: &str) -> Result<Self> {
        let dictionary = array.as_any_dictionary_opt();
        let values = dictionary.map_or(array, |d| d.values());
        if !known(values.data_type()) {
            let problem = format!(
                "{}, where text, numbers, times or lists of text are read; cast it",
                array.data_type()
            );
            return Err(Error::format(path, format!("column {name}"), problem));
        }
        // normalized_keys asks for a value, if only to point null keys at it.
        let dictionary = dictionary
            .filter(|d| !d.values().is_empty())
            .map(|d| (d.values(), d.normalized_keys()));
        Ok(Column { array, dictionary })
    }

    fn cell(&self, i: usize) -> Cell<'a> {
        match &self.dictionary {
            _ if self.array.is_null(i) => Cell::Null,
            Some((values, keys)) => value(values, keys[i]),
            None => value(self.array, i),
        }
    }
}

fn known(of: &DataType) -> bool {
    use DataType::*;
    match of {
        Utf8 | LargeUtf8 | Utf8View | Boolean | Null | Date32 | Date64 | Timestamp(..) => true,
        List(f) | LargeList(f) => matches!(f.data_type(), Utf8 | LargeUtf8 | Utf8View),
        other => other.is_integer() || matches!(other, Float32 | Float64),
    }
}

fn value<'a>(array: &'a ArrayRef, i: usize) -> Cell<'a> {
    if array.is_null(i) {
        return Cell::Null;
    }
    macro_rules! whole {
        ($type:ty) => {
            Cell::Whole(array.as_primitive::<$type>().value(i) as i64)
        };
    }
    match array.data_type() {
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(i).into()),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(i).into()),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(i).into()),
        DataType::Boolean => {
            Cell::Text(if array.as_boolean().value(i) { "true" } else { "false" }.into())
        }
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::UInt8 => whole!(UInt8Type),
        DataType::UInt16 => whole!(UInt16Type),
        DataType::UInt32 => whole!(UInt32Type),
        DataType::UInt64 => {
            let n = array.as_primitive::<UInt64Type>().value(i);
            i64::try_from(n).map_or_else(|_| Cell::Text(n.to_string().into()), Cell::Whole)
        }
        DataType::Float32 => Cell::Real(f64::from(array.as_primitive::<Float32Type>().value(i))),
        DataType::Float64 => Cell::Real(array.as_primitive::<Float64Type>().value(i)),
        DataType::Date32 => {
            Cell::Moment(i64::from(array.as_primitive::<Date32Type>().value(i)) * 86_400_000)
        }
        DataType::Date64 => Cell::Moment(array.as_primitive::<Date64Type>().value(i)),
        DataType::Timestamp(unit, _) => Cell::Moment(match unit {
            TimeUnit::Second => {
                array.as_primitive::<TimestampSecondType>().value(i).saturating_mul(1000)
            }
            TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(i),
            TimeUnit::Microsecond => {
                array.as_primitive::<TimestampMicrosecondType>().value(i).div_euclid(1000)
            }
            TimeUnit::Nanosecond => {
                array.as_primitive::<TimestampNanosecondType>().value(i).div_euclid(1_000_000)
            }
        }),
        DataType::List(_) => texts(&array.as_list::<i32>().value(i)),
        DataType::LargeList(_) => texts(&array.as_list::<i64>().value(i)),
        _ => Cell::Null, // `known` lets nothing else in
    }
}

fn texts(list: &ArrayRef) -> Cell<'static> {
    let all = (0..list.len()).filter_map(|i| value(list, i).text().map(|t| t.into_owned()));
    Cell::Texts(all.collect())
}
