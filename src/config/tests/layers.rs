//! What overrides a job file: which key it names, what it means there, and who wins.

use super::*;
use crate::config::overrides::{self, Key};

fn layers(job: &str, variables: &[(&str, &str)], sets: &[&str]) -> Layers {
    Layers {
        job: job.to_owned(),
        catalogs: None,
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect(),
        sets: sets.iter().map(|&set| set.to_owned()).collect(),
    }
}

/// The small job with a `[catalog]` that uses an entry of this catalogs file.
fn with_catalogs(catalog: &str, catalogs: &str) -> Layers {
    let (before, after) = SMALL.split_once("[catalog]\n").unwrap();
    let (_, after) = after.split_once("[table]").unwrap();
    let job = format!("{before}[catalog]\n{catalog}\n[table]{after}");
    Layers { catalogs: Some(CatalogsFile { file: "c.toml".into(), text: Ok(catalogs.to_owned()) }), ..layers(&job, &[], &[]) }
}

fn effective(layers: &Layers) -> Effective {
    Effective::of(layers, &env).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn wrong(layers: &Layers) -> String {
    Effective::of(layers, &env).map(|effective| format!("{effective:?}")).unwrap_err().to_string()
}

fn set(sets: &[&str]) -> Config {
    effective(&layers(SMALL, &[], sets)).config
}

fn variable(name: &str, value: &str) -> Config {
    effective(&layers(SMALL, &[(name, value)], &[])).config
}

fn wrong_set(set: &str) -> String {
    wrong(&layers(SMALL, &[], &[set]))
}

fn wrong_variable(name: &str, value: &str) -> String {
    wrong(&layers(SMALL, &[(name, value)], &[]))
}

/// A row as `check --show` has it.
fn row(layers: &Layers, key: &str) -> Option<(String, String)> {
    let setting = effective(layers).settings().into_iter().find(|setting| setting.key() == key)?;
    Some((setting.value.to_string(), setting.from.map_or_else(|| String::from("default"), |from| from.to_string())))
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let keys: std::collections::BTreeSet<Key> = overrides::keys().into_iter().collect();
    assert!(keys.len() > 180, "{}", keys.len());
    let mut variables = BTreeMap::new();
    for key in &keys {
        if let Some(other) = variables.insert(key.variable(), key) {
            panic!("{key:?} and {other:?} have one variable");
        }
        for spelling in [key.variable(), key.variable().to_lowercase()] {
            assert_eq!(overrides::key_of_variable(&spelling).as_ref(), Ok(key), "{spelling}");
        }
    }
}

#[test]
fn variables_name_keys_in_any_case_and_with_one_underscore_or_two() {
    for (name, path) in [
        ("TIDEGATE__NAME", "name"),
        ("TIDEGATE__KAFKA__TOPIC", "kafka.topic"),
        ("tidegate__kafka__topic", "kafka.topic"),
        ("Tidegate__Kafka__On_Data_Loss", "kafka.on_data_loss"),
        ("TIDEGATE__KAFKA__SECURITY_PROTOCOL", "kafka.security.protocol"),
        ("TIDEGATE__KAFKA__SECURITY__PROTOCOL", "kafka.security.protocol"),
        ("TIDEGATE__KAFKA__GROUP_ID", "kafka.group.id"),
        ("TIDEGATE__KAFKA__LOG_LEVEL", "kafka.log_level"),
        ("TIDEGATE__CATALOG__USE", "catalog.use"),
        ("TIDEGATE__CATALOG__S3_SECRET_ACCESS_KEY", "catalog.s3.secret-access-key"),
        ("TIDEGATE__CATALOG__S3__SECRET_ACCESS_KEY", "catalog.s3.secret-access-key"),
        ("TIDEGATE__CATALOG__HEADER_X_TENANT", "catalog.header.x-tenant"),
        ("TIDEGATE__CATALOG__HEADER__X_ICEBERG_ACCESS_DELEGATION", "catalog.header.X-Iceberg-Access-Delegation"),
        ("TIDEGATE__TABLE__PROPERTIES", "table.properties"),
        ("TIDEGATE__LIMITS__MAX_OFFSETS_PER_TRIGGER", "limits.max_offsets_per_trigger"),
    ] {
        assert_eq!(overrides::key_of_variable(name).map(|key| key.path()), Ok(path.to_owned()), "{name}");
    }
}

#[test]
fn a_variable_that_names_no_key_is_refused_with_the_nearest() {
    for (name, said) in [
        ("TIDEGATE__KAFKA__TOPC", "names no key; did you mean TIDEGATE__KAFKA__TOPIC?"),
        ("TIDEGATE__KAFAK__TOPIC", "names no key; did you mean TIDEGATE__KAFKA__TOPIC?"),
        ("TIDEGATE__KAFKA__SASL_PASWORD", "names no key; did you mean TIDEGATE__KAFKA__SASL_PASSWORD?"),
        ("TIDEGATE__KAFKA_TOPIC", "names no key; did you mean TIDEGATE__KAFKA__TOPIC?"),
        ("TIDEGATE__NAM", "names no key; did you mean TIDEGATE__NAME?"),
        ("TIDEGATE__", "names no key; it is written TIDEGATE__TABLE__KEY, as in TIDEGATE__KAFKA__TOPIC"),
        ("TIDEGATE__KAFKA", "[kafka] is a table; name a key of it, as in TIDEGATE__KAFKA__TOPIC"),
        (
            "TIDEGATE__TABLE__PROPERTIES__WRITE_FORMAT_DEFAULT",
            "names in `table.properties` cannot be told from a variable; give all of it, \
             TIDEGATE__TABLE__PROPERTIES='{ \"name\" = \"value\" }', or use --set",
        ),
    ] {
        assert_eq!(wrong_variable(name, "hidden"), format!("variable {name}: {said}"));
    }
    for name in ["TIDEGATE_LOG", "TIDEGATE_CATALOGS", "TIDEGATE_SERVICE_HOST", "TIDEGATE", "MY_TIDEGATE__KAFKA__TOPIC"] {
        assert_eq!(variable(name, "x").kafka.topic, "articles.raw.v1", "{name}");
    }
}

#[test]
fn a_key_set_by_two_variables_is_refused() {
    let twice = [("TIDEGATE__KAFKA__TOPIC", "a"), ("tidegate__kafka__topic", "b"), ("TIDEGATE__KAFKA__CLIENT_ID", "c")];
    insta::assert_snapshot!(wrong(&layers(SMALL, &twice, &[])), @"variable tidegate__kafka__topic: tidegate__kafka__topic sets `kafka.topic`, as variable TIDEGATE__KAFKA__TOPIC does; leave one out");
    let not_text = Layers { variables: vec![("TIDEGATE__KAFKA__TOPIC".into(), None)], ..layers(SMALL, &[], &[]) };
    insta::assert_snapshot!(wrong(&not_text), @"variable TIDEGATE__KAFKA__TOPIC: its value is not UTF-8");
}

#[test]
fn an_override_is_taken_as_it_stands() {
    for value in ["$ecret", "${PWD}", "$$", "\"x\"", "[1]", "{a", " a ", "", "5", "true", "#"] {
        let config = variable("TIDEGATE__KAFKA__SASL_PASSWORD", value);
        assert_eq!(config.kafka.properties["sasl.password"], value);
    }
    assert_eq!(variable("TIDEGATE__KAFKA__TOPIC", "2025").kafka.topic, "2025");
    assert_eq!(set(&["kafka.topic=2025"]).kafka.topic, "2025");
    assert_eq!(set(&["kafka.topic=\"a\""]).kafka.topic, "a");
    assert_eq!(set(&["kafka.topic='a'"]).kafka.topic, "a");
    assert_eq!(set(&["kafka.client.id=a=b"]).kafka.properties["client.id"], "a=b");
    assert_eq!(set(&["kafka.\"client.id\"=${PWD}"]).kafka.properties["client.id"], "${PWD}");
    assert_eq!(set(&["table.properties.\"a=b\"=c"]).table.properties["a=b"], "c");
}

#[test]
fn values_of_every_kind_can_be_given() {
    let config = set(&[
        "kafka.mirror_group=false",
        "kafka.start={ \"0\" = 12 }",
        "merge.id=[\"id\", \"version\"]",
        "merge.order_by=version",
        "limits.max_offsets_per_trigger=1_000",
        "limits.memory_limit=128 MiB",
        "limits.max_bytes_per_trigger=1048576",
        "limits.max_duration=90 s",
        "rejects.max_ratio=0.5",
        "metadata.columns.version=offset",
        "table.format_version=3",
        "table.properties.write.format.default=parquet",
        "table.partition_by=[\"bucket(4, id)\"]",
        "verify.unique=[]",
    ]);
    assert!(!config.kafka.mirror_group);
    assert_eq!(config.kafka.start, Start::Offsets([(0, 12)].into()));
    let Mode::Merge(merge) = &config.mode else { panic!() };
    assert_eq!((merge.id.as_slice(), merge.order_by.as_slice()), (&["id".into(), "version".into()][..], &["version".into()][..]));
    assert_eq!((config.limits.max_offsets_per_trigger, config.limits.memory_limit), (1_000, 128 << 20));
    assert_eq!((config.limits.max_bytes_per_trigger, config.limits.max_duration), (1 << 20, Duration::from_secs(90)));
    assert_eq!(config.rejects.max_ratio.to_string(), "0.5");
    assert_eq!(config.metadata, [("version".into(), MetadataKind::Offset)].into());
    assert_eq!(config.table.properties, [("write.format.default".into(), "parquet".into())].into());
    assert_eq!((config.table.format_version, config.table.partition_by.len()), (3, 1));
    for (name, value) in [("TIDEGATE__MERGE__ID", "[\"version\"]"), ("TIDEGATE__MERGE__ID", "version")] {
        let Mode::Merge(merge) = variable(name, value).mode else { panic!() };
        assert_eq!(merge.id, ["version"]);
    }
    assert_eq!(variable("TIDEGATE__KAFKA__START", "2026-01-31T12:00:00Z").kafka.start, Start::Timestamp(1_769_860_800_000));
}

/// However the file spells a property, an override takes its place, and leaves its neighbours alone.
#[test]
fn an_override_takes_the_place_of_every_spelling() {
    for line in ["\"client.id\" = \"file\"", "client.id = \"file\"", "client = { id = \"file\" }"] {
        let job = small("topic =", &format!("{line}\n\"client.rack\" = \"r\"\ntopic ="));
        for set in ["kafka.client.id=set", "kafka.\"client.id\"=set"] {
            let properties = effective(&layers(&job, &[], &[set])).config.kafka.properties;
            assert_eq!((properties["client.id"].as_str(), properties["client.rack"].as_str()), ("set", "r"), "{line} {set}");
        }
    }
    let job = small("[merge]", "properties = { write.a = \"1\", \"write.b\" = \"2\" }\n[merge]");
    let one = effective(&layers(&job, &[], &["table.properties.write.a=3"])).config.table.properties;
    assert_eq!(one, [("write.a".into(), "3".into()), ("write.b".into(), "2".into())].into());
    let all = effective(&layers(&job, &[], &["table.properties={ c = 4 }"])).config.table.properties;
    assert_eq!(all, [("c".into(), "4".into())].into());
}

/// HTTP makes no difference between their cases: of two, the one that goes last would be anybody's guess.
#[test]
fn an_override_takes_the_place_of_a_header_in_any_case() {
    let rest = "type = \"rest\"\nuri = \"http://host\"";
    for header in ["header.X-Team = \"file\"", "\"header.X-TEAM\" = \"file\""] {
        let job =
            small("type = \"sql\"\nuri = \"sqlite:///w/catalog.db\"\nwarehouse = \"file:///w\"", &format!("{rest}\n{header}"));
        let found = effective(&layers(&job, &[("TIDEGATE__CATALOG__HEADER_X_TEAM", "variable")], &[])).config.catalog.properties;
        assert_eq!(found, [("header.x-team".into(), "variable".into())].into(), "{header}");
        let of_entry = with_catalogs(&format!("use = \"prod\"\n{}", header.to_lowercase()), &format!("[prod]\n{rest}\n{header}"));
        assert_eq!(effective(&of_entry).config.catalog.properties.len(), 1, "{header}");
    }
}

/// As an empty variable is none for AWS's own libraries, and a secret that is not there for Kubernetes may be empty.
#[test]
fn an_empty_property_of_a_catalog_is_none() {
    let job = small("[catalog]", "[catalog]\ns3.session-token = \"file\"\ns3.region = \"${NONE:-}\"");
    let found = effective(&layers(&job, &[("TIDEGATE__CATALOG__S3_SESSION_TOKEN", "")], &[])).config.catalog.properties;
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn layers_show_no_value() {
    let shown = format!("{:?}", layers("token = \"hunter2\"", &[("TOKEN", "hunter2")], &["a=hunter2"]));
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn mistakes_name_the_variable_or_the_option_that_they_came_by() {
    insta::assert_snapshot!(wrong_variable("TIDEGATE__KAFKA__TOPIC", "a b"), @"variable TIDEGATE__KAFKA__TOPIC: `kafka.topic`: `a b` is not a topic name: 1 to 249 letters, digits, `.`, `_` and `-`; one job reads one topic");
    insta::assert_snapshot!(wrong_variable("TIDEGATE__KAFKA__GROUP_ID", "x"), @"variable TIDEGATE__KAFKA__GROUP_ID: `group.id` cannot be set in [kafka]: tidegate never joins a consumer group; `mirror_group` shows the offsets in the group `tidegate-<name>`");
    insta::assert_snapshot!(wrong_variable("TIDEGATE__MERGE__ID", "[\"id\""), @"variable TIDEGATE__MERGE__ID: `merge.id`: not TOML: unclosed array, expected `]`");
    insta::assert_snapshot!(wrong_variable("TIDEGATE__MERGE__ID", "titel"), @"variable TIDEGATE__MERGE__ID: `merge.id`: `titel` is not a column of [table]; columns are `id`, `version`, `published_at` and `tags`");
    insta::assert_snapshot!(wrong_set("limits.max_duration=60"), @r#"--set limits.max_duration: `limits.max_duration`: "60" has no unit; units are `ms`, `s`, `min`, `h` and `d`"#);
    insta::assert_snapshot!(wrong_set("kafka.topc=x"), @"--set kafka.topc: unknown key `topc` in [kafka]; did you mean `topic`?");
    insta::assert_snapshot!(wrong_set("kafak.topic=x"), @"--set kafak.topic: unknown table [kafak]; did you mean [kafka]?");
    insta::assert_snapshot!(wrong_set("topic=x"), @"--set topic: unknown key `topic`; it belongs in [kafka]");
    insta::assert_snapshot!(wrong_set("kafka=x"), @"--set kafka: [kafka] is a table; name a key of it, as in --set kafka.topic=...");
    insta::assert_snapshot!(wrong_set("mode.x=1"), @"--set mode.x: `mode` must be a string, not a table");
    insta::assert_snapshot!(wrong_set("kafka..topic=1"), @"--set kafka..topic: is not a key; write --set kafka.topic=articles");
    insta::assert_snapshot!(wrong_set("kafka.sasl.mechansim=PLAIN"), @"--set kafka.sasl.mechansim: librdkafka has no property `sasl.mechansim`; did you mean `sasl.mechanism`?");
    insta::assert_snapshot!(wrong(&layers(&small("topic =", "topc ="), &[("TIDEGATE__MODE", "mrege")], &["name=a b"])), @r"
    line 4: unknown key `topc` in [kafka]; did you mean `topic`?
    variable TIDEGATE__MODE: unknown value `mrege` for `mode`; did you mean `merge`?
    --set name: `name`: `a b` is not a job name: 1 to 64 letters, digits, `.`, `_` and `-`
    ");
    // A table that only an override made has no line, and is no place to add a key to.
    let no_kafka = SMALL
        .replace("[kafka]", "")
        .replace("topic = \"articles.raw.v1\"", "")
        .replace("\"bootstrap.servers\" = \"localhost:9092\"", "");
    insta::assert_snapshot!(wrong(&layers(&no_kafka, &[("TIDEGATE__KAFKA__TOPIC", "t")], &[])), @"missing key `bootstrap.servers` in [kafka]");
}

#[test]
fn a_secret_is_refused_on_the_command_line_and_not_repeated() {
    for set in [
        "kafka.sasl.password=hunter2",
        "kafka.\"ssl.key.pem\"=hunter2",
        "kafka.sasl.pasword=hunter2",
        "catalog.credential=id:hunter2",
        "catalog.header.Authorization=hunter2",
        "catalog.s3.secret-access-key='hunter2'",
        "catalog.uri=postgresql://me:hunter2@host/db",
        "catalog.uri=postgresql://host/db?password=hunter2",
        "table.properties.s3.secret-access-key=hunter2",
        "table.properties={ \"s3.secret-access-key\" = \"hunter2\" }",
        "table.properties={ s3 = { secret-access-key = \"hunter2\" } }",
    ] {
        let said = wrong_set(set);
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.contains("a secret has no place on the command line") || set.contains("pasword"), "{said}");
    }
    insta::assert_snapshot!(wrong_set("kafka.sasl.password=x"), @"--set kafka.sasl.password: a secret has no place on the command line, where others can read it; set TIDEGATE__KAFKA__SASL_PASSWORD, or name a file with `file:PATH`");
    for set in ["kafka.sasl.password=file:/run/secrets/kafka", "kafka.sasl.password=env:PW", "kafka.sasl.username=me"] {
        assert!(Effective::of(&layers(SMALL, &[], &[set]), &env).is_ok(), "{set}");
    }
}

const CATALOGS: &str = r#"
[prod]
type = "sql"
uri = "sqlite:///p/catalog.db"
warehouse = "file://${PWD}/p"
s3.endpoint = "https://s3"

[prod.s3]
region = "eu"
"#;

#[test]
fn a_catalog_named_in_a_file_of_its_own_is_laid_beneath_the_job_s() {
    let catalogs =
        CATALOGS.replace("s3.endpoint = \"https://s3\"\n", "").replace("region =", "endpoint = \"https://s3\"\nregion =");
    let layers = with_catalogs("use = \"prod\"\nuri = \"sqlite:///own.db\"\n\"s3.region\" = \"us\"", &catalogs);
    let catalog = effective(&layers).config.catalog;
    assert_eq!((catalog.name.as_str(), catalog.uri.as_str()), ("prod", "sqlite:///own.db"));
    assert_eq!(catalog.warehouse, "file:///home/me/p");
    assert_eq!(catalog.properties, [("s3.endpoint".into(), "https://s3".into()), ("s3.region".into(), "us".into())].into());
    for (key, value, from) in [
        ("catalog.type", "sql", "c.toml, line 3"),
        ("catalog.name", "prod", "c.toml, line 2"),
        ("catalog.uri", "sqlite:///own.db", "line 9"),
        ("catalog.warehouse", "file:///home/me/p", "c.toml, line 5"),
        ("catalog.\"s3.endpoint\"", "https://s3", "c.toml, line 8"),
        ("catalog.\"s3.region\"", "us", "line 10"),
    ] {
        assert_eq!(row(&layers, key), Some((format!("\"{value}\""), from.to_owned())), "{key}");
    }
    let sets = vec!["catalog.use=prod".to_owned(), "catalog.name=other".to_owned()];
    let catalog = effective(&Layers { sets, ..with_catalogs("use = \"nope\"", &catalogs) }).config.catalog;
    assert_eq!((catalog.name.as_str(), catalog.uri.as_str()), ("other", "sqlite:///p/catalog.db"));
}

#[test]
fn mistakes_of_a_catalogs_file_name_that_file_and_its_line() {
    let used = |catalogs: &str| wrong(&with_catalogs("use = \"prod\"", catalogs));
    insta::assert_snapshot!(used(CATALOGS), @"c.toml, line 8: not TOML: duplicate key");
    insta::assert_snapshot!(used("[prod]\ntype = \"sql\"\nuri = \"sqlite:///c\"\nwarehouse = \"rel\""), @r#"c.toml, line 4: `catalog.warehouse`: "rel" is a relative path; write "file://${PWD}/rel""#);
    insta::assert_snapshot!(used("[prod]\ntype = \"sql\"\nuri = \"sqlite:///${NOT_SET}\"\nwarehose = \"/w\""), @r"
    c.toml, line 3: `catalog.uri`: environment variable `NOT_SET` is not set; set it, or write `${NOT_SET:-default}`
    c.toml, line 4: unknown key `warehose`; did you mean `warehouse`?
    ");
    insta::assert_snapshot!(used("[prd]\ntype = \"sql\""), @"line 8: `catalog.use`: no catalog `prod` in `c.toml`; did you mean `prd`?");
    insta::assert_snapshot!(used("[dev]\n[test]"), @"line 8: `catalog.use`: no catalog `prod` in `c.toml`; it has `dev` and `test`");
    insta::assert_snapshot!(used("[catalog.prod]\ntype = \"sql\""), @"line 8: `catalog.use`: no catalog `prod` in `c.toml`; a catalog is written [prod], not [catalog.prod]");
    insta::assert_snapshot!(used("prod = 1"), @"c.toml, line 1: `prod` must be a table: write [prod] on a line of its own");
    insta::assert_snapshot!(used("[prod]\nuse = \"dev\""), @"c.toml, line 2: `use` stands in a job's [catalog]; no catalog is made of another");
    insta::assert_snapshot!(used("[prod]\n\"s3.region\" = \"a\"\ns3.region = \"b\"\ntype = \"sql\"\nuri = \"sqlite:///c\"\nwarehouse = \"/w\""), @"c.toml, line 3: `s3.region` is given twice");
    let unread = CatalogsFile { file: "c.toml".into(), text: Err("No such file".into()) };
    insta::assert_snapshot!(wrong(&Layers { catalogs: Some(unread.clone()), ..with_catalogs("use = \"prod\"", "") }), @"line 8: `catalog.use`: cannot read `c.toml`: No such file");
    insta::assert_snapshot!(wrong(&Layers { catalogs: None, ..with_catalogs("use = \"prod\"", "") }), @"line 8: `catalog.use` needs a catalogs file: name it with --catalogs FILE or TIDEGATE_CATALOGS, or put `catalogs.toml` beside the job file");
    // A job that uses none does not care.
    effective(&Layers { catalogs: Some(unread), ..layers(SMALL, &[], &[]) });
}

/// What the layers give for one key: in the catalogs file, in the job file, in a variable, and behind `--set`, once or twice.
type Given = (bool, bool, bool, usize);

type Words = &'static [&'static str];
type Word = (&'static str, Words, Words, Words);

/// Keys that take any word: path, how files may spell it, how a variable may, how `--set` may.
const WORDS: &[Word] = &[
    ("kafka.topic", &["topic"], &["TIDEGATE__KAFKA__TOPIC"], &["kafka.topic"]),
    (
        "kafka.\"client.id\"",
        &["client.id", "\"client.id\""],
        &["TIDEGATE__KAFKA__CLIENT_ID", "tidegate__kafka__client__id"],
        &["kafka.client.id", "kafka.\"client.id\""],
    ),
    ("catalog.name", &["name"], &["TIDEGATE__CATALOG__NAME"], &["catalog.name"]),
    (
        "catalog.\"s3.region\"",
        &["s3.region", "\"s3.region\"", "s3 = { region = # }"],
        &["TIDEGATE__CATALOG__S3_REGION", "TIDEGATE__CATALOG__S3__REGION"],
        &["catalog.s3.region", "catalog.\"s3\".region"],
    ),
    ("table.branch", &["branch"], &["TIDEGATE__TABLE__BRANCH"], &["table.branch"]),
];

proptest! {
    /// The model: of those who give a value, the last in this order wins; who gives none has no say.
    #[test]
    fn the_later_layer_wins(given in prop::collection::vec((any::<Given>(), any::<prop::sample::Index>()), WORDS.len())) {
        let mut tables: BTreeMap<&str, String> = BTreeMap::new();
        let (mut entry, mut variables, mut sets, mut expected) = (String::new(), Vec::new(), Vec::new(), Vec::new());
        for ((path, in_file, in_env, in_set), ((catalogs, file, variable, set), spelling)) in WORDS.iter().zip(&given) {
            let table = path.split('.').next().unwrap();
            let (catalogs, file) = (*catalogs && table == "catalog", *file || *path == "kafka.topic");
            let line = |word: &str| match spelling.get(in_file) {
                spelt if spelt.contains('#') => spelt.replace('#', &format!("\"{word}\"")) + "\n",
                spelt => format!("{spelt} = \"{word}\"\n"),
            };
            let default = match *path { "catalog.name" => Some("prod"), "table.branch" => Some("main"), _ => None };
            let mut wins = default;
            if catalogs { entry += &line("catalogs"); wins = Some("catalogs"); }
            if file { *tables.entry(table).or_default() += &line("file"); wins = Some("file"); }
            if *variable { variables.push((*spelling.get(in_env), "variable")); wins = Some("variable"); }
            for word in ["first", "second"].iter().take(set % 3) { sets.push(format!("{}={word}", spelling.get(in_set))); wins = Some(word); }
            expected.push((*path, wins.map(|word| format!("\"{word}\""))));
        }
        let part = |table: &str| tables.get(table).cloned().unwrap_or_default();
        let job = format!(
            "name = \"j\"\nmode = \"append\"\n[kafka]\nbootstrap.servers = \"b:1\"\n{}[catalog]\nuse = \"prod\"\n{}[table]\nname = \"a.b\"\n{}",
            part("kafka"), part("catalog"), part("table"),
        );
        let text = format!("[prod]\ntype = \"sql\"\nuri = \"sqlite:///c.db\"\nwarehouse = \"/w\"\n{entry}");
        let layers = Layers {
            catalogs: Some(CatalogsFile { file: "c.toml".into(), text: Ok(text) }),
            sets,
            ..layers(&job, &variables, &[])
        };
        let found: Vec<_> = expected.iter().map(|(path, _)| (*path, row(&layers, path).map(|(value, _)| value))).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn never_panics_on_any_override(
        name in "(TIDEGATE__|tidegate__)[A-Za-z_.é]{0,20}", value in "\\PC*", set in "[a-z.\"'=]{0,20}(=|)\\PC*",
        near in "(kafka|table|catalog|merge|metadata|name)(\\.(topic|start|properties|columns|id|a|\"b.c\")){0,4}=[\\[{]?[a-z\"=,{}\\[\\]]{0,9}",
        catalogs in "(\\[[a-z.]{1,8}\\]|prod|[a-z3.]{1,6}|=|\"x\"|\n| ){0,12}",
    ) {
        for set in [set, near] {
            let layers = Layers {
                catalogs: Some(CatalogsFile { file: "c".into(), text: Ok(catalogs.clone()) }),
                ..layers(SMALL, &[(&name, &value)], &[&set, "catalog.use=prod"])
            };
            let _answer = Effective::of(&layers, &env);
        }
    }
}
