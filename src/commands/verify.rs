//! `tidegate verify`: proves the guarantees on the live table, and changes nothing.

use serde::Serialize;

use crate::commands::{open_source, open_tables};
use crate::config::Config;
use crate::error::Result;
use crate::job::load_table;
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
    let table = load_table(&tables.catalog, config).await?;
    let source = open_source(config)?;
    let snapshot_id = table.metadata.snapshot_for_ref(&config.table.branch).map(|head| head.snapshot_id());
    let ident = table.ident.to_string();
    let doors = Doors { config, source: &source, catalog: &tables.catalog, store: &tables.store };
    let guarantees = verify(&doors, table).await?;
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
