//! `tidegate init`: creates the table that a job file describes; a table that exists is left alone and compared.

use serde::Serialize;

use crate::commands::open_tables;
use crate::config::Config;
use crate::error::Result;
use crate::report::Head;
use crate::table::create;

/// What `init` did. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Initialised {
    /// Its head.
    #[serde(flatten)]
    pub head: Head,
    /// Full name of the table.
    pub table: String,
    /// Its location.
    pub location: String,
    /// Whether it was made now.
    pub created: bool,
    /// How an existing table differs from the job file; none of it keeps the job from running.
    pub differences: Vec<String>,
}

/// Creates the table.
pub async fn init(config: &Config) -> Result<Initialised> {
    let tables = open_tables(config)?;
    let created = create::init(config, &tables.catalog).await?;
    Ok(Initialised {
        head: Head::of("init", &config.name),
        table: crate::job::table_ident(config).to_string(),
        location: created.location,
        created: !created.already_there,
        differences: created.differences,
    })
}

impl Initialised {
    /// For a person.
    pub fn text(&self) -> String {
        let mut text = if self.created {
            format!("created table {} at {}\n", self.table, self.location)
        } else {
            format!("table {} is there already; it was left as it is\n", self.table)
        };
        for difference in &self.differences {
            text.push_str(&format!("  {difference}\n"));
        }
        text
    }
}
