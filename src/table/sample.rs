//! Job files for tests.

use crate::config::Config;

/// The columns of the sample job.
pub(super) const COLUMNS: &str = r#"columns = [
    { name = "id", type = "string", required = true },
    { name = "published_at", type = "timestamptz", required = true },
    { name = "version", type = "long" },
    { name = "tags", type = "list<struct<name: string, weight: double>>", doc = "as given" },
    { name = "extra", type = "map<string, list<int>>" },
]"#;

/// A job that merges into `demo.news`; `table` is put into `[table]`, `rest` at the end.
pub(crate) fn job(table: &str, rest: &str) -> Config {
    let text = format!(
        r#"
name = "news"
mode = "merge"
[kafka]
topic = "news"
"bootstrap.servers" = "localhost:9092"
[format]
type = "json"
[catalog]
type = "sql"
uri = "sqlite:///nowhere/catalog.db"
warehouse = "file:///nowhere"
[table]
name = "demo.news"
{table}
[merge]
id = ["id"]
event_time = "published_at"
order_by = ["version"]
{rest}
"#
    );
    Config::parse(&text, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

/// A job that appends to `demo.news`.
pub(super) fn appending(table: &str) -> Config {
    let text = format!(
        r#"
name = "news"
mode = "append"
[kafka]
topic = "news"
"bootstrap.servers" = "localhost:9092"
[format]
type = "json"
[catalog]
type = "sql"
uri = "sqlite:///nowhere/catalog.db"
warehouse = "file:///nowhere"
[table]
name = "demo.news"
{table}
"#
    );
    Config::parse(&text, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}
