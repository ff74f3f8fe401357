//! A job as it takes effect.

use super::*;

/// The rows as a job file again, without their origins.
fn again(effective: &Effective) -> String {
    let mut text = String::new();
    for table in effective.settings().chunk_by(|one, next| one.table == next.table) {
        if !table[0].table.is_empty() {
            text.push_str(&format!("[{}]\n", table[0].table));
        }
        table.iter().for_each(|setting| text.push_str(&(setting.assignment() + "\n")));
    }
    // What came in by `${..}` is a text like any other.
    text.replace('$', "$$")
}

fn read(job: &str) -> Effective {
    let layers = Layers { job: job.to_owned(), ..Layers::default() };
    Effective::of(&layers, &env).unwrap_or_else(|mistakes| panic!("{mistakes}\n{job}"))
}

#[test]
fn what_is_shown_is_a_job_file_of_the_same_job() {
    let append = SMALL.replace("[merge]", "[other]").replace("id = [\"id\"]", "").replace("event_time = \"published_at\"", "");
    let append = append.replace("[other]", "[watermark]").replace("name = \"articles\"\n", "name = \"a\"\nmode = \"append\"\n");
    let append = append.replace("[watermark]", "");
    let odd = small("[\"id\"]", "[\"id\", \"version\"]").replace(
        "[table]",
        "[table]\nproperties = { \"a\\\"b\" = \"$$x\\ny\", \"ü\" = \"\" }\nsort_by = [\"identity(a b)\", \"bucket(3, id) desc nulls first\"]",
    );
    let odd =
        odd.replace("{ name = \"tags\", ", "{ name = \"a b\", type = \"int\" }, { name = \"tags\", doc = \"it's \\\"so\\\"\", ");
    let offsets = small("topic =", "start = { \"0\" = 12, 3 = 4 }\ntopic =");
    for job in [ARTICLES, HEALTH, SMALL, good::EVERY_KEY, &append, &odd, &offsets] {
        let mut first = read(job);
        let (levels, name) = (first.config.table.namespace.clone(), format!("{}_rejects", first.config.table.name));
        // The one default that depends on another key is shown by what it comes to.
        first.config.rejects.table.get_or_insert((levels, name));
        let second = read(&again(&first));
        assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
        assert_eq!(again(&first), again(&second));
    }
}

/// A key that the job file may have and that is shown nowhere would be a secret of another kind.
#[test]
fn every_key_is_shown() {
    let shown: Vec<String> = read(good::EVERY_KEY).settings().iter().map(Setting::key).collect();
    for (table, keys) in vocabulary::KEYS.iter().filter(|(table, _)| *table != "table.columns") {
        for key in keys.iter().filter(|key| !vocabulary::is_table(key) || !table.is_empty()) {
            let path = if table.is_empty() { (*key).to_owned() } else { format!("{table}.{key}") };
            // What `use` brings is shown in its place.
            let found = path == "catalog.use" || shown.iter().any(|other| *other == path || other.starts_with(&format!("{path}.")));
            assert!(found, "{path}");
        }
    }
}

#[test]
fn secrets_are_masked_and_everything_else_is_not() {
    let job = small(
        "topic =",
        "\"sasl.password\" = \"hunter2\"\n\"sasl.username\" = \"me\"\nsasl.oauthbearer.client.secret = \"hunter2\"\ntopic =",
    );
    let job = job.replace("[catalog]", "[catalog]\nclient.session-token = \"hunter2\"\ns3.endpoint = \"https://me:hunter2@s3\"\ns3.secret-access-key = \"hunter2\"\ns3.region = \"eu\"");
    let effective = read(&job.replace("[merge]", "properties = { \"s3.session-token\" = \"hunter2\" }\n[merge]"));
    let settings = effective.settings();
    let secrets: Vec<_> = settings.iter().filter(|setting| setting.secret).map(Setting::assignment).collect();
    assert_eq!(
        secrets,
        [
            "\"sasl.oauthbearer.client.secret\" = \"***\"",
            "\"sasl.password\" = \"***\"",
            "\"client.session-token\" = \"***\"",
            "\"s3.endpoint\" = \"***\"",
            "\"s3.secret-access-key\" = \"***\"",
            "\"s3.session-token\" = \"***\"",
        ]
    );
    let all = format!("{effective:?} {settings:?}");
    assert!(!all.contains("hunter2"), "{all}");
    assert!(all.contains("\"me\"") && all.contains("\"eu\""), "{all}");
}

#[test]
fn a_password_in_an_address_is_masked() {
    for (uri, shown) in [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@w/d:x@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=pw", "postgresql://host/db?***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("https://host:8181/catalog", "https://host:8181/catalog"),
        ("sqlite:///a:b@c", "sqlite:///a:***@c"),
    ] {
        assert_eq!(catalog::without_password(uri), shown);
    }
}
