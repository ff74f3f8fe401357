use super::*;

#[test]
fn mistakes_come_all_at_once_in_the_order_of_the_file() {
    insta::assert_snapshot!(mistakes(
        r#"
        nmae = "x"
        mode = "mrege"
        [kafak]
        [kafka]
        topc = "t"
        start = "erliest"
        mirror_group = "yes"
        enable.auto.commit = true
        [catalog]
        type = "sql"
        uri = "mysql://db"
        warehouse = "warehouse"
        [table]
        name = "articles"
        columns = [{ name = "id", type = "strng" }]
        [limits]
        max_duration = "10 mins"
        memory_limit = "1 Gib"
        "#
    ), @r#"
    line 2: unknown key `nmae`; did you mean `name`?
    line 3: unknown value `mrege` for `mode`; did you mean `merge`?
    line 4: unknown table [kafak]; did you mean [kafka]?
    line 5: missing key `bootstrap.servers` in [kafka]
    line 6: unknown key `topc` in [kafka]; did you mean `topic`?
    line 7: `kafka.start`: `erliest` is not a place to start; did you mean `earliest`?
    line 8: unknown value `yes` for `kafka.mirror_group`; expected `true` or `false`
    line 9: `enable.auto.commit` cannot be set in [kafka]: offsets are kept in the table and nowhere else
    line 12: `catalog.uri`: must begin with postgresql:// or sqlite://, the databases that there are; write "postgresql://user@host/database", or "sqlite:///absolute/path/catalog.db"
    line 13: `catalog.warehouse`: "warehouse" is a relative path; write "file://${PWD}/warehouse"
    line 15: `table.name`: `articles` is not a table name; write it with its namespace, as in `news.articles`
    line 16: `table.columns.type`: unknown type `strng`; did you mean `string`?
    line 18: `limits.max_duration`: unknown unit `mins` in "10 mins"; did you mean `min`?
    line 19: `limits.memory_limit`: unknown unit `Gib` in "1 Gib"; did you mean `GiB`?
    missing key `id` in [merge]
    missing key `event_time` in [merge]
    "#);
}

#[test]
fn an_empty_file_lacks_everything_that_is_required() {
    insta::assert_snapshot!(mistakes(""), @r"
    missing key `name` in [table]
    missing key `id` in [merge]
    missing key `event_time` in [merge]
    missing key `name`
    missing key `topic` in [kafka]
    missing key `bootstrap.servers` in [kafka]
    missing key `type` in [catalog]
    missing key `uri` in [catalog]
    missing key `warehouse` in [catalog]
    ");
}

#[test]
fn a_file_that_is_not_toml_has_one_mistake() {
    insta::assert_snapshot!(mistakes("name = \"x\"\n\n[kafka\ntopic = 1"), @"line 3: not TOML: unclosed table, expected `]`");
    insta::assert_snapshot!(mistakes("name = \"x\"\nname = \"y\"\n"), @"line 2: not TOML: duplicate key");
    insta::assert_snapshot!(mistakes("name = x"), @"line 1: not TOML: string values must be quoted, expected literal string");
    insta::assert_snapshot!(mistakes("name = \"x\"\nurl = \"a\nb\""), @"line 3: not TOML: key with no value, expected `=`");
}

#[test]
fn unknown_keys() {
    insta::assert_snapshot!(kafka("topc = 1"), @"line 5: unknown key `topc` in [kafka]; did you mean `topic`?");
    insta::assert_snapshot!(kafka("compression = 1"), @"line 5: unknown key `compression` in [kafka]; known are `topic`, `start`, `on_data_loss` and `mirror_group`");
    insta::assert_snapshot!(kafka("mode = \"append\""), @"line 5: unknown key `mode` in [kafka]; it belongs at the top of the file, before the first table");
    insta::assert_snapshot!(kafka("max_duration = \"1 s\""), @"line 5: unknown key `max_duration` in [kafka]; it belongs in [limits]");
    insta::assert_snapshot!(more("delay = \"2 h\""), @"line 25: unknown key `delay` in [merge]; it belongs in [watermark]");
    insta::assert_snapshot!(more("[watermak]\ndelay = \"2 h\""), @"line 25: unknown table [watermak]; did you mean [watermark]?");
    insta::assert_snapshot!(more("[limits]\nmaxDuration = \"2 h\""), @"line 26: unknown key `maxDuration` in [limits]; did you mean `max_duration`?");
    insta::assert_snapshot!(more("[metadata]\ncolums = {}"), @"line 26: unknown key `colums` in [metadata]; did you mean `columns`?");
    insta::assert_snapshot!(mistakes(&small("required = true", "requird = true")), @"line 15: unknown key `requird` in [table.columns]; did you mean `required`?");
}

#[test]
fn wrong_types() {
    insta::assert_snapshot!(mistakes(&small("\"articles.raw.v1\"", "1")), @"line 4: `kafka.topic` must be a string, not an integer");
    insta::assert_snapshot!(mistakes(&small("\"articles.raw.v1\"", "[\"a\", \"b\"]")), @"line 4: `kafka.topic` must be a string, not an array");
    insta::assert_snapshot!(more("[[verify]]"), @"line 25: `verify` must be a table: write [verify] on a line of its own");
    insta::assert_snapshot!(more("[limits]\nmax_duration = 60\nmemory_limit = true\nmax_offsets_per_trigger = 1.5"), @r#"
    line 26: `limits.max_duration`: 60 has no unit; write "60 s"
    line 27: `limits.memory_limit` must be a number of bytes such as "256 MiB", not a boolean
    line 28: `limits.max_offsets_per_trigger` must be a whole number from 0, not a float
    "#);
    insta::assert_snapshot!(kafka("mirror_group = 1\n\"fetch.max.bytes\" = 1.5"), @r#"
    line 5: `kafka.mirror_group` must be `true` or `false`, not an integer
    line 6: `kafka."fetch.max.bytes"` must be a string, a whole number or a flag, not a float
    "#);
    insta::assert_snapshot!(mistakes(&small("[\"id\"]", "[1, \"\"]")), @r"
    line 22: `merge.id` must be a string, not an integer
    line 22: `merge.id` must not be empty
    ");
    insta::assert_snapshot!(mistakes(&small("{ name = \"version\", type = \"long\" }", "\"version\"")), @r#"line 16: `table.columns` must be a table such as { name = "value" }, not a string"#);
    insta::assert_snapshot!(more("[metadata]\ncolumns = [\"a\"]"), @r#"line 26: `metadata.columns` must be a table such as { name = "value" }, not an array"#);
    insta::assert_snapshot!(format!("{}", mistakes(&format!("verify = 1\n{SMALL}"))), @"line 1: `verify` must be a table: write [verify] on a line of its own");
}

#[test]
fn wrong_values() {
    insta::assert_snapshot!(mistakes(&small("\"articles\"", "\"my job\"")), @"line 1: `name`: `my job` is not a job name: 1 to 64 letters, digits, `.`, `_` and `-`");
    insta::assert_snapshot!(mistakes(&small("\"articles.raw.v1\"", "\"a,b\"")), @"line 4: `kafka.topic`: `a,b` is not a topic name: 1 to 249 letters, digits, `.`, `_` and `-`; one job reads one topic");
    insta::assert_snapshot!(kafka("on_data_loss = \"ig\\nore\\u0007\""), @"line 5: unknown value `ig ore ` for `kafka.on_data_loss`; expected `fail` or `skip`");
    insta::assert_snapshot!(kafka("on_data_loss = \"ignore\""), @"line 5: unknown value `ignore` for `kafka.on_data_loss`; expected `fail` or `skip`");
    insta::assert_snapshot!(mistakes(&small("event_time", "deletes = \"sotf\"\nties = \"replase\"\nevent_time")), @r"
    line 23: unknown value `sotf` for `merge.deletes`; did you mean `soft`?
    line 24: unknown value `replase` for `merge.ties`; did you mean `replace`?
    ");
    insta::assert_snapshot!(more("[format]\ntype = \"avro\"\nepoch_unit = \"sec\""), @r"
    line 26: unknown value `avro` for `format.type`; expected `json`
    line 27: unknown value `sec` for `format.epoch_unit`; expected `s`, `ms`, `us` or `ns`
    ");
    insta::assert_snapshot!(more("[rejects]\nmax_ratio = 10\ntable = \"news.articles\""), @r"
    line 26: `rejects.max_ratio` must be a share from 0 to 1, not 10
    line 27: `rejects.table` is the job's own table; rejects have columns of their own and need another
    ");
    insta::assert_snapshot!(more("[watermark]\ndelay = \"2 hours\"\nmax_future = \"-1 s\""), @r#"
    line 26: `watermark.delay`: unknown unit `hours` in "2 hours"; did you mean `h`?
    line 27: `watermark.max_future`: "-1 s" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "#);
    insta::assert_snapshot!(mistakes(&small("[table]", "[table]\nformat_version = 1")), @"line 13: `table.format_version` must be 2 or 3, not 1");
    insta::assert_snapshot!(mistakes(&small("[table]", "[table]\nproperties = { \"tidegate.x\" = 1, \"format-version\" = 3 }")), @r"
    line 13: `format-version` cannot be set in [table.properties]: write `format_version` in [table]
    line 13: `tidegate.x` cannot be set in [table.properties]: tidegate keeps its own state under such names
    ");
}

#[test]
fn soft_deletes_need_a_flag_of_their_own() {
    let soft = |more: &str| mistakes(&small("event_time =", &format!("deletes = \"soft\"\n{more}\nevent_time =")));
    let flag = |column: &str| soft(&format!("tombstones = \"delete\"\ndeleted_column = \"{column}\""));
    insta::assert_snapshot!(soft(""), @r#"
    line 23: `merge.deletes`: "soft" has no effect without `tombstones = "delete"`: nothing else deletes
    line 23: `merge.deletes`: "soft" needs `deleted_column`, the boolean column that is true for deleted rows
    "#);
    insta::assert_snapshot!(soft("tombstones = \"delete\"\ndeleted_colum = \"version\""), @"line 25: unknown key `deleted_colum` in [merge]; did you mean `deleted_column`?");
    insta::assert_snapshot!(flag("is_deleted"), @"line 25: `merge.deleted_column`: `is_deleted` is not a column of [table]; columns are `id`, `version`, `published_at` and `tags`");
    insta::assert_snapshot!(flag("_deleted"), @r"
    line 25: `merge.deleted_column`: `_deleted` is a name of Iceberg's own, and Spark cannot read a table that has it; try `is_deleted`
    line 25: `merge.deleted_column`: `_deleted` is not a column of [table]; columns are `id`, `version`, `published_at` and `tags`
    ");
    insta::assert_snapshot!(flag("vresion"), @"line 25: `merge.deleted_column`: `vresion` is not a column of [table]; did you mean `version`?");
    insta::assert_snapshot!(flag("version"), @"line 25: `merge.deleted_column`: column `version` has type long, but must be a boolean to say whether the row is deleted");
    insta::assert_snapshot!(flag("tags"), @"line 25: `merge.deleted_column`: column `tags` has type list, but must be a boolean to say whether the row is deleted");
    insta::assert_snapshot!(flag("id"), @r"
    line 25: `merge.deleted_column`: `id` is in `merge.id` too; the flag needs a column of its own
    line 25: `merge.deleted_column`: column `id` has type string, but must be a boolean to say whether the row is deleted
    ");
    insta::assert_snapshot!(flag("published_at"), @r"
    line 25: `merge.deleted_column`: `published_at` is in `merge.event_time` too; the flag needs a column of its own
    line 25: `merge.deleted_column`: column `published_at` has type timestamptz, but must be a boolean to say whether the row is deleted
    ");
    insta::assert_snapshot!(mistakes(&small("event_time =", "deleted_column = \"version\"\nevent_time =")), @r#"line 23: `merge.deleted_column` has no meaning without `deletes = "soft"`: a deleted row goes"#);
}

#[test]
fn wrong_places() {
    insta::assert_snapshot!(mistakes(&small("news.articles", "articles")), @"line 13: `table.name`: `articles` is not a table name; write it with its namespace, as in `news.articles`");
    insta::assert_snapshot!(mistakes(&small("news.articles", "news..articles")), @"line 13: `table.name`: `news..articles` is not a table name; write it with its namespace, as in `news.articles`");
    insta::assert_snapshot!(mistakes(&small("file:///w", "warehouse")), @r#"line 10: `catalog.warehouse`: "warehouse" is a relative path; write "file://${PWD}/warehouse""#);
    insta::assert_snapshot!(mistakes(&small("file:///w", "file://warehouse")), @r#"line 10: `catalog.warehouse`: "file://warehouse" has no absolute path; write "file:///absolute/path""#);
    insta::assert_snapshot!(mistakes(&small("file:///w", "hdfs://name/x")), @r#"line 10: `catalog.warehouse`: "hdfs://name/x" is of no kind that can be opened; known are file, s3, s3a, s3n, gs, abfs, abfss, wasb, wasbs"#);
    insta::assert_snapshot!(mistakes(&small("file:///w", "s3:///x")), @r#"line 10: `catalog.warehouse`: "s3:///x" names no bucket; write "s3://bucket/path""#);
    insta::assert_snapshot!(mistakes(&small("file:///w", "/")), @r#"line 10: `catalog.warehouse`: "/" is the root of the file system; name a folder in it"#);
    insta::assert_snapshot!(mistakes(&small("sqlite:///w/catalog.db", "sqlite:w.db")), @r#"line 9: `catalog.uri`: must begin with postgresql:// or sqlite://, the databases that there are; write "postgresql://user@host/database", or "sqlite:///absolute/path/catalog.db""#);
    insta::assert_snapshot!(mistakes(&small("sqlite:///w/catalog.db", "sqlite://")), @r#"line 9: `catalog.uri`: a file is missing; write "sqlite:///absolute/path/catalog.db""#);
    insta::assert_snapshot!(mistakes(&small("type = \"sql\"", "type = \"sqlite\"")), @"line 8: unknown value `sqlite` for `catalog.type`; expected `sql` or `rest`");
}

#[test]
fn wrong_rest_catalogs() {
    insta::assert_snapshot!(rest("uri = \"https://me:pw@host\""), @"line 9: `catalog.uri`: holds a user or a password; use `credential` or `token` instead");
    insta::assert_snapshot!(rest("uri = \"https://\""), @r#"line 9: `catalog.uri`: is no address of a server; write "https://host:port/path""#);
    insta::assert_snapshot!(rest("uri = \"https://host/x?token=pw\""), @r#"line 9: `catalog.uri`: is no address of a server; write "https://host:port/path""#);
    insta::assert_snapshot!(rest("uri = \"http://host\"\ncredentials = \"a:b\""), @"line 10: unknown property `catalog.credentials`; did you mean `credential`?");
    insta::assert_snapshot!(rest("uri = \"http://host\"\noauth2_server_uri = \"https://t\""), @"line 10: unknown property `catalog.oauth2_server_uri`; did you mean `oauth2-server-uri`?");
    insta::assert_snapshot!(rest("uri = \"http://host\"\nrest.sigv4_enabled = true"), @"line 10: unknown property `catalog.rest.sigv4_enabled`; did you mean `rest.sigv4-enabled`?");
    insta::assert_snapshot!(rest("uri = \"http://host\"\nrest.sigv4-enabled = \"yes\""), @"line 10: `catalog.rest.sigv4-enabled` is neither `true` nor `false`");
    insta::assert_snapshot!(rest("uri = \"http://host\"\nheader.X-A = \"a\"\nheader.x-a = \"b\""), @"line 11: `catalog.header.x-a` is `header.X-A` again: case makes no difference in a header's name");
    insta::assert_snapshot!(rest("uri = \"http://host\"\n\"header.\" = \"x\""), @"line 10: unknown property `catalog.header.`; did you mean `header.*`?");
}

/// What is taken and changes nothing is a mistake of its author's, who would look for it elsewhere.
#[test]
fn properties_that_would_have_no_effect() {
    let rest = |lines: &str| rest(&format!("uri = \"http://host\"\n{lines}"));
    let sql = |lines: &str| mistakes(&small("[catalog]", &format!("[catalog]\n{lines}")));
    for name in ["credential", "token", "prefix", "header.X-A", "rest.signing-name", "ssl.client.cert", "scope"] {
        let said = sql(&format!("\"{name}\" = \"x\""));
        let because = "has no effect in a catalog of type \"sql\", only in one of type \"rest\"";
        assert_eq!(said, format!("line 8: `catalog.{name}` {because}"));
    }
    insta::assert_snapshot!(sql("password = \"env:P\""), @"line 8: `catalog.password` has no effect on SQLite, which knows no passwords");
    insta::assert_snapshot!(sql("s3.sse.key = \"k\""), @"line 8: `catalog.s3.sse.key` has no effect without `s3.sse.type`");
    insta::assert_snapshot!(rest("password = \"p\""), @r#"line 10: `catalog.password` has no effect in a catalog of type "rest"; a login there is `credential = "id:secret"`, or a `token`"#);
    insta::assert_snapshot!(rest("rest.sigv4-enabled = true\ntoken = \"t\""), @"line 11: `catalog.token` has no effect beside `rest.sigv4-enabled`: who signs its requests has no token; leave one of the two out");
    insta::assert_snapshot!(rest("rest.signing-region = \"eu\""), @"line 10: `catalog.rest.signing-region` has no effect without `rest.sigv4-enabled = true`");
    insta::assert_snapshot!(rest("scope = \"s\""), @"line 10: `catalog.scope` has no effect without `credential`, which a token is fetched for");
    insta::assert_snapshot!(rest("ssl.client.key = \"k.pem\""), @"line 10: `catalog.ssl.client.key` has no effect without `ssl.client.cert`, the certificate that it belongs to");
}

#[test]
fn wrong_databases() {
    let database = |uri: &str| mistakes(&small("sqlite:///w/catalog.db", uri));
    insta::assert_snapshot!(database("postgresql://me:s3cret@db/lake"), @r#"line 9: `catalog.uri`: holds a password; leave it out, and write `password = "env:NAME"` or set PGPASSWORD"#);
    insta::assert_snapshot!(database("postgresql://db"), @r#"line 9: `catalog.uri`: names no host or no database; write "postgresql://user@host:5432/database""#);
    insta::assert_snapshot!(database("postgresql:///lake"), @r#"line 9: `catalog.uri`: names no host or no database; write "postgresql://user@host:5432/database""#);
    insta::assert_snapshot!(database("postgresql://me@db/lake?password=s3cret"), @"line 9: `catalog.uri`: has an option behind its `?` that is not known; there are sslmode, sslrootcert, sslcert, sslkey");
    insta::assert_snapshot!(database("postgresql://me@db/lake?sslmode=on"), @"line 9: `catalog.uri`: has an unknown `sslmode`; there are disable, allow, prefer, require, verify-ca, verify-full");
}

/// Each names where the same tables can be reached, and nothing is said of the address that goes with the type.
#[test]
fn catalogs_that_are_refused() {
    let kind = |kind: &str| {
        mistakes(&small(
            "type = \"sql\"\nuri = \"sqlite:///w/catalog.db\"",
            &format!("type = \"{kind}\"\nuri = \"thrift://h:9083\""),
        ))
    };
    insta::assert_snapshot!(kind("hive"), @r#"line 8: `catalog.type`: "hive" cannot be written to: the Hive Metastore's own protocol gives no safe commit from here; use the Iceberg REST endpoint of the same metastore: Hive 4.1 and later serve one themselves (`metastore.catalog.servlet.port`), Gravitino and Polaris serve one in front of it"#);
    insta::assert_snapshot!(kind("Glue"), @r#"line 8: `catalog.type`: "glue" cannot be written to: Glue's own API gives no safe commit from here; use the Iceberg REST endpoint of the same catalog: `type = "rest"`, `uri = "https://glue.REGION.amazonaws.com/iceberg"`, `"rest.sigv4-enabled" = true`, `"rest.signing-name" = "glue"`, `"rest.signing-region" = "REGION"`, the account's number as `warehouse`"#);
    insta::assert_snapshot!(kind("dynamodb"), @r#"line 8: `catalog.type`: "dynamodb" cannot be written to: this kind of catalog is not supported; move its tables to Glue, and use Glue's Iceberg REST endpoint"#);
    insta::assert_snapshot!(kind("s3tables"), @r#"line 8: `catalog.type`: "s3tables" cannot be written to: use the Iceberg REST endpoint of S3 Tables: `type = "rest"`, `uri = "https://s3tables.REGION.amazonaws.com/iceberg"`, `"rest.sigv4-enabled" = true`, `"rest.signing-name" = "s3tables"`, `"rest.signing-region" = "REGION"`, the table bucket's ARN as `warehouse`"#);
    insta::assert_snapshot!(kind("hadoop"), @r#"line 8: `catalog.type`: "hadoop" cannot be written to: a directory has no safe commit on object stores; register its tables in a REST or SQL catalog (`CALL system.register_table` in Spark)"#);
    insta::assert_snapshot!(kind("nessie"), @r#"line 8: `catalog.type`: "nessie" cannot be written to: use Nessie's Iceberg REST endpoint: `type = "rest"`, `uri = "http://HOST:19120/iceberg"`"#);
}

#[test]
fn wrong_starts() {
    insta::assert_snapshot!(kafka("start = \"erliest\""), @"line 5: `kafka.start`: `erliest` is not a place to start; did you mean `earliest`?");
    insta::assert_snapshot!(kafka("start = \"2026-01-31\""), @r#"line 5: `kafka.start`: `2026-01-31` is not a place to start; expected `earliest`, `latest`, a time with its offset such as 2026-01-31T12:00:00Z, or offsets such as { "0" = 12 }"#);
    insta::assert_snapshot!(kafka("start = 2026-01-31T12:00:00"), @r#"line 5: `kafka.start`: `2026-01-31T12:00:00` is not a place to start; expected `earliest`, `latest`, a time with its offset such as 2026-01-31T12:00:00Z, or offsets such as { "0" = 12 }"#);
    insta::assert_snapshot!(kafka("start = 1969-12-31T23:59:59Z"), @"line 5: `kafka.start`: `1969-12-31T23:59:59Z` lies before 1970");
    insta::assert_snapshot!(kafka("start = 12"), @r#"line 5: `kafka.start`: expected `earliest`, `latest`, a time with its offset such as 2026-01-31T12:00:00Z, or offsets such as { "0" = 12 }"#);
    insta::assert_snapshot!(kafka("start = { a = 1, \"-1\" = 2, \"1\" = -2, \"01\" = 3, \"2\" = 99999999999999999999 }"), @r"
    line 5: `kafka.start`: `-1` is not the number of a partition
    line 5: `kafka.start.1` must be a whole number from 0, not `-2`
    line 5: `kafka.start.2` must be a whole number from 0, not `99999999999999999999`
    line 5: `kafka.start`: `a` is not the number of a partition
    ");
    insta::assert_snapshot!(kafka("start = { \"1\" = 2, \"01\" = 3, \"2\" = 18446744073709551615 }"), @r"
    line 5: `kafka.start`: partition 1 is given twice
    line 5: `kafka.start`: 18446744073709551615 is larger than any offset
    ");
}

#[test]
fn properties_that_would_break_the_guarantee() {
    insta::assert_snapshot!(kafka("group.id = \"g\"\nenable.auto.commit = false\nisolation.level = \"read_uncommitted\""), @r"
    line 5: `group.id` cannot be set in [kafka]: tidegate never joins a consumer group; `mirror_group` shows the offsets in the group `tidegate-<name>`
    line 6: `enable.auto.commit` cannot be set in [kafka]: offsets are kept in the table and nowhere else
    line 7: `isolation.level` cannot be set in [kafka]: it is always `read_committed`: aborted records must not reach the table
    ");
    insta::assert_snapshot!(kafka("\"auto.offset.reset\" = \"earliest\"\ncheck.crcs = false\nrebalance_cb = \"x\""), @r"
    line 5: `auto.offset.reset` cannot be set in [kafka]: an offset that is gone must stop the run, not move it; where a first run begins is `start`
    line 6: `check.crcs` cannot be set in [kafka]: a record damaged on its way must not reach the table
    line 7: `rebalance_cb` cannot be set in [kafka]: it is set by code, not by text
    ");
    insta::assert_snapshot!(kafka("\"sasl.mechansim\" = \"PLAIN\"\nmetadata.broker.list = \"a:1\""), @r"
    line 5: librdkafka has no property `sasl.mechansim`; did you mean `sasl.mechanism`?
    line 6: `metadata.broker.list` cannot be set in [kafka]: it is written `bootstrap.servers`
    ");
    insta::assert_snapshot!(kafka("\"fetch.max.bytes\" = 1\nfetch.max.bytes = 2"), @"line 5: `fetch.max.bytes` is given twice");
    insta::assert_snapshot!(mistakes(&small("\"bootstrap.servers\" = \"localhost:9092\"", "")), @"line 3: missing key `bootstrap.servers` in [kafka]");
    insta::assert_snapshot!(mistakes(&small("\"localhost:9092\"", "\"${EMPTY}\"")), @r#"line 5: `kafka."bootstrap.servers"` must not be empty"#);
    insta::assert_snapshot!(mistakes(&small("bootstrap.servers", "bootstrap.server")), @"line 5: librdkafka has no property `bootstrap.server`; did you mean `bootstrap.servers`?");
}

#[test]
fn variables_that_are_not_set() {
    insta::assert_snapshot!(mistakes(&small("articles.raw.v1", "${TOPIC}.${VERSION}")), @r"
    line 4: `kafka.topic`: environment variable `TOPIC` is not set; set it, or write `${TOPIC:-default}`
    line 4: `kafka.topic`: environment variable `VERSION` is not set; set it, or write `${VERSION:-default}`
    ");
    insta::assert_snapshot!(mistakes(&small("sql\"", "${CATALOG}\"")), @"line 8: `catalog.type`: environment variable `CATALOG` is not set; set it, or write `${CATALOG:-default}`");
    insta::assert_snapshot!(mistakes(&small("articles.raw.v1", "$TOPIC")), @"line 4: `kafka.topic`: a variable is written `${NAME}`, a dollar sign `$$`");
    insta::assert_snapshot!(more("[limits]\nmemory_limit = \"${MEMORY}\"\nmax_duration = \"${EMPTY}\""), @r#"
    line 26: `limits.memory_limit`: environment variable `MEMORY` is not set; set it, or write `${MEMORY:-default}`
    line 27: `limits.max_duration`: "" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "#);
    insta::assert_snapshot!(mistakes(&small("event_time", "deletes = \"${D}\"\nevent_time")), @"line 23: `merge.deletes`: environment variable `D` is not set; set it, or write `${D:-default}`");
}

#[test]
fn limits_that_let_nothing_through() {
    insta::assert_snapshot!(more(
        "[limits]\nmax_offsets_per_trigger = 0\nmax_bytes_per_trigger = \"0 GiB\"\nmax_duration = \"0 s\"\nmemory_limit = \"63 MiB\"\nstall_timeout = \"0 s\""
    ), @r"
    line 26: `limits.max_offsets_per_trigger` must be above zero
    line 27: `limits.max_bytes_per_trigger` must be above zero
    line 28: `limits.max_duration` must be above zero
    line 29: `limits.memory_limit` must be at least 64 MiB, not 66060288 bytes
    line 30: `limits.stall_timeout` must be above zero
    ");
    insta::assert_snapshot!(more("[limits]\nmax_offsets_per_trigger = 4294967296\nmin_offsets_per_trigger = -1"), @r"
    line 26: `limits.max_offsets_per_trigger` must be below 2^32, not 4294967296
    line 27: `limits.min_offsets_per_trigger` must be a whole number from 0, not `-1`
    ");
}

#[test]
fn columns_that_do_not_exist_or_do_not_fit() {
    insta::assert_snapshot!(mistakes(&small("\"published_at\"\n", "\"publishd_at\"\norder_by = [\"verison\", \"nothing\"]\n")), @r"
    line 23: `merge.event_time`: `publishd_at` is not a column of [table]; did you mean `published_at`?
    line 24: `merge.order_by`: `verison` is not a column of [table]; did you mean `version`?
    line 24: `merge.order_by`: `nothing` is not a column of [table]; columns are `id`, `version`, `published_at` and `tags`
    ");
    insta::assert_snapshot!(mistakes(&small("[\"id\"]", "[\"tags\"]").replace("= \"published_at\"\n", "= \"version\"\n")), @r"
    line 22: `merge.id`: column `tags` has type list, but must be of a primitive type
    line 23: `merge.event_time`: column `version` has type long, but must be a date or a timestamp
    ");
    insta::assert_snapshot!(mistakes(&small("[\"id\"]", "[\"id\", \"id\"]")), @"line 22: `merge.id` names column `id` twice");
    insta::assert_snapshot!(mistakes(&small("[\"id\"]", "[]")), @"line 22: `merge.id` names no column; rows are found by at least one");
    insta::assert_snapshot!(mistakes(&small("\"version\", type", "\"id\", type")), @"line 16: column `id` is given twice in `table.columns`");
    insta::assert_snapshot!(mistakes(&small("[table]", "[table]\npartition_by = [\"day(id)\", \"dya(id)\", \"hour(when)\", \"tags\"]")), @r"
    line 13: `table.partition_by`: unknown transform `dya` in `dya(id)`; did you mean `day`?
    line 13: `table.partition_by`: column `id` has type string, but must be a date or a timestamp for this transform
    line 13: `table.partition_by`: `when` is not a column of [table]; columns are `id`, `version`, `published_at` and `tags`
    line 13: `table.partition_by`: column `tags` has type list, but must be of a primitive type for this transform
    ");
    insta::assert_snapshot!(mistakes(&small("[table]", "[table]\npartition_by = [\"day(published_at)\", \"hours(published_at)\"]")), @"line 13: `table.partition_by`: column `published_at` is partitioned twice by the same kind of transform");
    insta::assert_snapshot!(mistakes(&small("[table]", "[table]\nsort_by = [\"id up\", \"bucket(0, id)\"]")), @r"
    line 13: `table.sort_by`: `up` is not an order; write `asc` or `desc`, then `nulls first` or `nulls last`
    line 13: `table.sort_by`: `bucket(0, id)`: a number above 0 comes first, as in `bucket(16, id)`
    ");
    insta::assert_snapshot!(more("[verify]\nunique = [\"sample_id\"]\n[metadata]\ncolumns = { id = \"offset\", tags = \"headers\", o = \"offest\" }"), @r"
    line 26: `verify.unique`: `sample_id` is not a column of [table]; columns are `id`, `version`, `published_at` and `tags`
    line 28: unknown value `offest` for `metadata.columns.o`; did you mean `offset`?
    line 28: `metadata.columns.id`: column `id` has type string, but must be a long to hold the offset
    line 28: `metadata.columns.tags`: column `tags` has type list, but must be a map<string, binary> to hold the headers
    ");
    insta::assert_snapshot!(mistakes(&small("\"long\"", "\"timestamptz_ns\"")), @"line 16: `table.columns.type`: timestamptz_ns exists from format version 3; write `format_version = 3`");
    insta::assert_snapshot!(mistakes(&small("\"long\"", "\"bigint\"")), @"line 16: `table.columns.type`: unknown type `bigint`; did you mean `long`?");
}

#[test]
fn a_column_without_a_readable_name_hides_no_other_mistake_and_makes_none() {
    insta::assert_snapshot!(mistakes(&small("name = \"published_at\", type", "type")), @"line 17: missing key `name` in [table.columns]");
}

#[test]
fn append_mode_refuses_what_has_no_meaning_in_it() {
    let text = small("name = \"articles\"", "name = \"a\"\nmode = \"append\"");
    insta::assert_snapshot!(mistakes(&text), @r#"line 23: `merge.id` has no meaning in mode "append", which never looks at the table"#);
    let text = text.replace("[merge]\nid = [\"id\"]\nevent_time = \"published_at\"\n", "[watermark]\ndelay = \"1 h\"\n");
    insta::assert_snapshot!(mistakes(&text), @r#"line 22: [watermark] has no effect: in mode "append" lateness is judged only where `merge.event_time` names a column"#);
}
