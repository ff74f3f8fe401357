//! `tidegate verify`: proves the guarantees on the live table, and changes nothing.

use serde::Serialize;

use crate::catalog::{Catalog, LoadedTable};
use crate::commands::{open_source, open_tables};
use crate::config::Config;
use crate::error::Result;
use crate::job::{load_table, rejects_ident};
use crate::report::Head;
use crate::verify::{Doors, Guarantee, Judgement, verify};

/// What `verify` answers. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// Full name of the table.
    pub table: String,
    /// Branch.
    pub branch: String,
    /// Head that was judged; none where the branch has no snapshot.
    pub snapshot_id: Option<i64>,
    /// 65 where a guarantee does not hold; else the code of the first that something kept from being judged; else 0.
    pub exit_code: u8,
    /// Every guarantee, in order.
    pub guarantees: Vec<Guarantee>,
}

/// Judges every guarantee, however many fail.
pub async fn verified(config: &Config) -> Result<Verified> {
    let tables = open_tables(config)?;
    let (rejects, table) = loaded(&tables.catalog, config).await?;
    let source = open_source(config)?;
    let snapshot_id = table.metadata.snapshot_for_ref(&config.table.branch).map(|head| head.snapshot_id());
    let ident = table.ident.to_string();
    let doors = Doors { config, source: &source, catalog: &tables.catalog, store: &tables.store };
    let guarantees = verify(&doors, table, rejects).await?;
    let failed = guarantees.iter().any(|guarantee| guarantee.result == Judgement::Fail);
    let error = guarantees.iter().map(|guarantee| guarantee.error_code).find(|&code| code != 0);
    Ok(Verified {
        head: Head::of("verify", &config.name),
        table: ident,
        branch: config.table.branch.clone(),
        snapshot_id,
        exit_code: if failed { 65 } else { error.unwrap_or(0) },
        guarantees,
    })
}

/// The rejects table, and the main table after it: a batch commits its rows before its rejects, and may do so while this looks. Rows
/// of a rejects table that is the younger one would be of a batch that the main table does not hold yet.
async fn loaded(catalog: &impl Catalog, config: &Config) -> Result<(Option<LoadedTable>, LoadedTable)> {
    let ident = rejects_ident(config);
    let rejects = catalog.load(&ident).await?;
    let table = load_table(catalog, config).await?;
    if rejects.is_some() {
        return Ok((rejects, table));
    }
    // It is made before the first batch that needs it is committed: what is not there now, no batch of the main table needed.
    match catalog.load(&ident).await? {
        None => Ok((None, table)),
        made => Ok((made, load_table(catalog, config).await?)),
    }
}

impl Verified {
    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for guarantee in &self.guarantees {
            let result = match guarantee.result {
                Judgement::Pass => "PASS",
                Judgement::Fail => "FAIL",
                Judgement::Warn => "WARN",
                Judgement::Skip => "SKIP",
            };
            text.push_str(&format!("{result}  {:<11} {}\n", guarantee.name, guarantee.found));
            let indent = " ".repeat(18);
            for finding in &guarantee.findings {
                let place = finding.place.text();
                let place = if place.is_empty() { place } else { format!("{place}: ") };
                text.push_str(&format!("{indent}{place}{}\n", finding.what));
            }
            let shown = u64::try_from(guarantee.findings.len()).expect("findings fit");
            if guarantee.findings_total > shown {
                text.push_str(&format!("{indent}and {} more\n", guarantee.findings_total - shown));
            }
            if let Some(hint) = &guarantee.hint {
                text.push_str(&format!("{indent}hint: {hint}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use iceberg::TableIdent;
    use iceberg::spec::{FormatVersion, PrimitiveType, TableMetadata};

    use super::*;
    use crate::catalog::{Change, CommitOutcome};
    use crate::live::testing::{TestTable, column, schema_of};

    /// Both tables, the rejects table only from some load on.
    #[derive(Debug)]
    struct Watched {
        table: LoadedTable,
        rejects_from: usize,
        loads: Mutex<Vec<String>>,
    }

    impl Catalog for Watched {
        async fn load(&self, table: &TableIdent) -> Result<Option<LoadedTable>> {
            let mut loads = self.loads.lock().unwrap();
            loads.push(table.name().to_owned());
            let there = table.name() == "news" || loads.len() > self.rejects_from;
            Ok(there.then(|| self.table.clone()))
        }

        async fn create(&self, _: &TableIdent, _: TableMetadata) -> Result<bool> {
            Ok(false)
        }

        fn default_location(&self, _: &TableIdent) -> String {
            String::new()
        }

        async fn swap(&self, _: &Change) -> CommitOutcome {
            CommitOutcome::Refused("it only shows".into())
        }
    }

    #[tokio::test]
    async fn a_batch_that_is_committed_meanwhile_is_no_finding() {
        let config = crate::table::sample::job("columns = []", "");
        for (rejects_from, order) in [
            (0, ["news_rejects", "news"].as_slice()),
            (2, &["news_rejects", "news", "news_rejects", "news"]),
            (9, &["news_rejects", "news", "news_rejects"]),
        ] {
            let made = TestTable::unpartitioned(FormatVersion::V2, schema_of(vec![column(1, "id", PrimitiveType::String, true)]));
            let table = LoadedTable {
                ident: TableIdent::from_strs(["demo", "news"]).unwrap(),
                metadata_location: String::new(),
                metadata: Arc::clone(&made.metadata),
                file_io: made.store.file_io(),
            };
            let catalog = Watched { table, rejects_from, loads: Mutex::default() };
            let (rejects, _) = loaded(&catalog, &config).await.unwrap();
            assert_eq!(rejects.is_some(), rejects_from < 9);
            assert_eq!(*catalog.loads.lock().unwrap(), order);
        }
    }
}
