//! Types of catalogs that tidegate does not write to, and where the same tables can be reached.

/// What to write in place of each. The first two have no conditional swap of a table's head that a client outside of Java could use;
/// a commit without one can lose the commit of another writer.
const REFUSED: &[(&str, &str)] = &[
    (
        "hive",
        "the Hive Metastore's own protocol gives no safe commit from here; use the Iceberg REST endpoint of the same metastore: \
         Hive 4.1 and later serve one themselves (`metastore.catalog.servlet.port`), Gravitino and Polaris serve one in front of it",
    ),
    (
        "glue",
        "Glue's own API gives no safe commit from here; use the Iceberg REST endpoint of the same catalog: `type = \"rest\"`, \
         `uri = \"https://glue.REGION.amazonaws.com/iceberg\"`, `\"rest.sigv4-enabled\" = true`, `\"rest.signing-name\" = \"glue\"`, \
         `\"rest.signing-region\" = \"REGION\"`, the account's number as `warehouse`",
    ),
    ("dynamodb", "this kind of catalog is not supported; move its tables to Glue, and use Glue's Iceberg REST endpoint"),
    (
        "s3tables",
        "use the Iceberg REST endpoint of S3 Tables: `type = \"rest\"`, `uri = \"https://s3tables.REGION.amazonaws.com/iceberg\"`, \
         `\"rest.sigv4-enabled\" = true`, `\"rest.signing-name\" = \"s3tables\"`, `\"rest.signing-region\" = \"REGION\"`, \
         the table bucket's ARN as `warehouse`",
    ),
    (
        "hadoop",
        "a directory has no safe commit on object stores; register its tables in a REST or SQL catalog \
         (`CALL system.register_table` in Spark)",
    ),
    ("nessie", "use Nessie's Iceberg REST endpoint: `type = \"rest\"`, `uri = \"http://HOST:19120/iceberg\"`"),
];

/// Why a type is refused, if it is one of these.
pub(super) fn reason(kind: &str) -> Option<String> {
    // Java takes these words in any case.
    let (name, reason) = REFUSED.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind))?;
    Some(format!("\"{name}\" cannot be written to: {reason}"))
}
