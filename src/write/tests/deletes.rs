//! Delete files read back by parsers that know nothing of the room.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use iceberg::io::FileIO;
use iceberg::puffin::PuffinReader;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal, NestedField, PrimitiveType, Struct,
    Transform,
};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};
use roaring::RoaringTreemap;

use super::{Layout, Table, field, path, read};
use crate::error::Result;
use crate::write::{FileDeletes, write_position_deletes, write_vectors};

fn fields() -> Vec<NestedField> {
    vec![field(1, "id", PrimitiveType::Long, true)]
}

fn data_file(path: &str, bucket: i32) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(path.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(Literal::int(bucket))]))
        .record_count(1 << 40)
        .file_size_in_bytes(1)
        .build()
        .unwrap()
}

fn table(version: FormatVersion) -> Table {
    let layout = Layout { partition: &[("id", Transform::Bucket(4))], version: Some(version), ..Layout::default() };
    Table::new(fields(), &layout)
}

fn deletes(data_file: &DataFile, positions: impl IntoIterator<Item = u64>) -> FileDeletes<'_> {
    FileDeletes { data_file, spec_id: 0, positions: positions.into_iter().collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_delete_file_belongs_to_one_data_file() {
    let table = table(FormatVersion::V2);
    let long = format!("s3://bucket/{}/ü.parquet", "x".repeat(200));
    let data_file = data_file(&long, 3);
    let positions: Vec<u64> = (0..70_000).map(|n| n * n).collect();
    let written = write_position_deletes(&table.target(0), &deletes(&data_file, positions.iter().copied())).await.unwrap();
    assert_eq!(written.content_type(), DataContentType::PositionDeletes);
    assert_eq!(written.file_format(), DataFileFormat::Parquet);
    let name = format!("{}/p+id=3/tidegate-job-00000000000000000000000000000000-0-00000-deletes.parquet", table.data_root());
    assert_eq!(written.file_path(), name);
    assert_eq!(written.partition(), data_file.partition());
    assert_eq!(written.record_count(), 70_000);
    assert_eq!(written.file_size_in_bytes(), std::fs::metadata(path(&name)).unwrap().len());
    assert_eq!(written.referenced_data_file(), Some(long.clone()));
    assert_eq!(written.sort_order_id(), None);
    assert_eq!(written.lower_bounds()[&2_147_483_546], Datum::string(&long));
    assert_eq!(written.upper_bounds()[&2_147_483_546], Datum::string(&long));
    assert_eq!(written.lower_bounds()[&2_147_483_545], Datum::long(0));
    assert_eq!(written.upper_bounds()[&2_147_483_545], Datum::long(69_999_i64 * 69_999));
    let content = read(&name);
    let schema = content.schema();
    let columns: Vec<_> =
        schema.fields().iter().map(|f| (f.name().as_str(), f.is_nullable(), &f.metadata()["PARQUET:field_id"])).collect();
    assert_eq!(columns, [("file_path", false, &"2147483546".to_owned()), ("pos", false, &"2147483545".to_owned())]);
    assert!(content.column(0).as_string::<i32>().iter().all(|path| path == Some(&long)));
    let found = content.column(1).as_primitive::<Int64Type>();
    assert!(found.values().iter().map(|&pos| u64::try_from(pos).unwrap()).eq(positions));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_format_version_does_not_take_is_a_broken_invariant() {
    let file = data_file("file:/d.parquet", 0);
    let broken = |result: Result<()>| assert_eq!(result.unwrap_err().exit_code(), 101);
    let one = deletes(&file, [1]);
    let (v1, v2, v3) = (table(FormatVersion::V1), table(FormatVersion::V2), table(FormatVersion::V3));
    broken(write_position_deletes(&v1.target(0), &one).await.map(drop));
    broken(write_position_deletes(&v3.target(0), &one).await.map(drop));
    broken(write_vectors(&v2.target(0), std::slice::from_ref(&one)).await.map(drop));
    broken(write_position_deletes(&v2.target(0), &deletes(&file, [])).await.map(drop));
    broken(write_position_deletes(&v2.target(0), &deletes(&file, [1 << 40])).await.map(drop));
    broken(write_vectors(&v3.target(0), &[deletes(&file, [1 << 40])]).await.map(drop));
    broken(write_vectors(&v3.target(0), &[FileDeletes { spec_id: 9, ..one.clone() }]).await.map(drop));
    assert!(!std::path::Path::new(path(&v2.data_root())).exists(), "nothing was written");
    assert!(write_vectors(&v3.target(0), &[]).await.unwrap().is_empty(), "nor for no deletes at all");
}

/// The portable 64-bit Roaring format, read as its specification describes it.
fn roaring(mut bytes: &[u8]) -> Vec<u64> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        bytes.split_off(..count).unwrap()
    }
    fn short(bytes: &mut &[u8]) -> usize {
        usize::from(u16::from_le_bytes(take(bytes, 2).try_into().unwrap()))
    }
    fn int(bytes: &mut &[u8]) -> usize {
        u32::from_le_bytes(take(bytes, 4).try_into().unwrap()) as usize
    }
    let mut values = Vec::new();
    let maps = u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap());
    for _ in 0..maps {
        let high = (int(&mut bytes) as u64) << 32;
        let cookie = int(&mut bytes);
        let (containers, runs) = match cookie & 0xFFFF {
            12346 => (int(&mut bytes), Vec::new()),
            12347 => {
                let containers = (cookie >> 16) + 1;
                (containers, take(&mut bytes, containers.div_ceil(8)).to_vec())
            }
            other => panic!("cookie {other}"),
        };
        let headers: Vec<_> = (0..containers).map(|_| (short(&mut bytes) << 16, short(&mut bytes) + 1)).collect();
        if runs.is_empty() || containers >= 4 {
            take(&mut bytes, 4 * containers);
        }
        for (index, (key, cardinality)) in headers.into_iter().enumerate() {
            let mut push = |low: usize| values.push(high | (key + low) as u64);
            if runs.get(index / 8).is_some_and(|bits| bits & (1 << (index % 8)) != 0) {
                for _ in 0..short(&mut bytes) {
                    let (start, more) = (short(&mut bytes), short(&mut bytes));
                    (start..=start + more).for_each(&mut push);
                }
            } else if cardinality <= 4096 {
                (0..cardinality).for_each(|_| push(short(&mut bytes)));
            } else {
                let bits = take(&mut bytes, 8192);
                (0..65536).filter(|low| bits[low / 8] & (1 << (low % 8)) != 0).for_each(&mut push);
            }
        }
    }
    assert!(bytes.is_empty(), "{} bytes too many", bytes.len());
    values
}

/// One blob `deletion-vector-v1`, read as the Puffin specification describes it; the checksum bit by bit.
fn vector(blob: &[u8]) -> Vec<u64> {
    let length = u32::from_be_bytes(blob[..4].try_into().unwrap()) as usize;
    assert_eq!(blob.len(), length + 8);
    let covered = &blob[4..4 + length];
    let crc = covered.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    assert_eq!((!crc).to_be_bytes(), blob[4 + length..]);
    assert_eq!(covered[..4], [0xD1, 0xD3, 0x39, 0x64]);
    roaring(&covered[4..])
}

async fn check_vectors(table: &Table, positions: &[Vec<u64>]) {
    let files: Vec<_> =
        (0..positions.len()).map(|n| data_file(&format!("file:/d/{n}.parquet"), i32::try_from(n % 4).unwrap())).collect();
    let deletes: Vec<_> = files.iter().zip(positions).map(|(file, positions)| deletes(file, positions.iter().copied())).collect();
    let target = table.target(0);
    let written = write_vectors(&target, &deletes).await.unwrap();
    assert_eq!(written.len(), files.len());
    let location = written[0].file_path();
    assert!(location.starts_with(&format!("{}/tidegate-job-", table.data_root())) && location.ends_with("-deletes.puffin"));
    let bytes = std::fs::read(path(location)).unwrap();
    for ((written, file), positions) in written.iter().zip(&files).zip(positions) {
        assert_eq!(written.file_path(), location, "one file for all");
        assert_eq!((written.content_type(), written.file_format()), (DataContentType::PositionDeletes, DataFileFormat::Puffin));
        assert_eq!(written.referenced_data_file().as_deref(), Some(file.file_path()));
        assert_eq!(written.partition(), file.partition());
        assert_eq!(written.file_size_in_bytes(), bytes.len() as u64);
        let start = usize::try_from(written.content_offset().unwrap()).unwrap();
        let length = usize::try_from(written.content_size_in_bytes().unwrap()).unwrap();
        let found = vector(&bytes[start..start + length]);
        assert_eq!(written.record_count(), found.len() as u64);
        let expected: Vec<_> = positions.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        assert_eq!(found, expected);
    }
    let reader = PuffinReader::new(FileIO::new_with_fs().new_input(location).unwrap());
    let footer = reader.file_metadata().await.unwrap();
    assert_eq!(footer.blobs().len(), written.len());
    for (blob, written) in footer.blobs().iter().zip(&written) {
        assert_eq!((blob.blob_type(), blob.fields()), ("deletion-vector-v1", &[2_147_483_645][..]));
        assert_eq!((blob.snapshot_id(), blob.sequence_number()), (-1, -1));
        assert_eq!(Some(blob.offset() as i64), written.content_offset());
        assert_eq!(Some(blob.length() as i64), written.content_size_in_bytes());
        let properties: BTreeMap<_, _> = blob.properties().iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let expected = [
            ("cardinality", written.record_count().to_string()),
            ("referenced-data-file", written.referenced_data_file().unwrap()),
        ];
        assert_eq!(properties, BTreeMap::from(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_every_container_are_read_back() {
    let table = table(FormatVersion::V3);
    let runs: Vec<u64> = (1000..200_000).collect();
    let bitmaps: Vec<u64> = (0..300_000).step_by(3).collect();
    let arrays: Vec<u64> = (0..1000).map(|n| n * 40_000).collect();
    let beyond: Vec<u64> = vec![0, (1 << 32) - 1, 1 << 32, 5 << 32, (5 << 32) + 1];
    let mixed: Vec<u64> = [&runs[..], &bitmaps, &arrays, &beyond].concat();
    check_vectors(&table, &[runs, bitmaps, arrays, beyond, mixed, vec![7]]).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn any_positions_survive_a_vector(
        runs in prop::collection::vec((0_u64..(1 << 34), 1_u64..5000, 1_u64..4), 1..6),
        reverse in any::<bool>(),
    ) {
        let mut positions: Vec<u64> =
            runs.iter().flat_map(|&(start, count, step)| (0..count).map(move |n| start + n * step)).collect();
        if reverse {
            positions.reverse();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(check_vectors(&table(FormatVersion::V3), &[positions.clone(), vec![3]]));
        let treemap: RoaringTreemap = positions.iter().copied().collect();
        prop_assert_eq!(treemap.len(), positions.iter().collect::<std::collections::BTreeSet<_>>().len() as u64);
    }
}
