//! Column types as text: `decimal(10, 2)`, `struct<a: int not null, b: list<string>>`.
//!
//! Pure. The names are those of the Iceberg specification; a name from another system is answered with ours. Ids of nested
//! fields count from 1 and are unique within the column only: `init` assigns the table's own.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, PrimitiveType, StructType, Type};

use super::nearest::nearest;

const PRIMITIVES: &[(&str, PrimitiveType)] = &[
    ("boolean", PrimitiveType::Boolean),
    ("int", PrimitiveType::Int),
    ("long", PrimitiveType::Long),
    ("float", PrimitiveType::Float),
    ("double", PrimitiveType::Double),
    ("date", PrimitiveType::Date),
    ("time", PrimitiveType::Time),
    ("timestamp", PrimitiveType::Timestamp),
    ("timestamptz", PrimitiveType::Timestamptz),
    ("timestamp_ns", PrimitiveType::TimestampNs),
    ("timestamptz_ns", PrimitiveType::TimestamptzNs),
    ("string", PrimitiveType::String),
    ("uuid", PrimitiveType::Uuid),
    ("binary", PrimitiveType::Binary),
];

/// Types with parameters, as they are written.
const PARAMETRIC: &[(&str, &str)] = &[
    ("decimal", "decimal(10, 2)"),
    ("fixed", "fixed(16)"),
    ("struct", "struct<a: int, b: string>"),
    ("list", "list<string>"),
    ("map", "map<string, long>"),
];

/// Names of other systems and what they are in Iceberg.
const FOREIGN: &[(&str, &str)] = &[
    ("bool", "boolean"),
    ("tinyint", "int"),
    ("smallint", "int"),
    ("integer", "int"),
    ("int32", "int"),
    ("bigint", "long"),
    ("int64", "long"),
    ("real", "float"),
    ("float32", "float"),
    ("float64", "double"),
    ("number", "double"),
    ("numeric", "decimal"),
    ("text", "string"),
    ("str", "string"),
    ("char", "string"),
    ("varchar", "string"),
    ("bytes", "binary"),
    ("blob", "binary"),
    ("varbinary", "binary"),
    ("datetime", "timestamp"),
    ("timestamp_ntz", "timestamp"),
    ("timestamp_ltz", "timestamptz"),
    ("array", "list"),
    ("row", "struct"),
    ("object", "struct"),
];

/// Deeper types are mistakes, and a bound keeps the parser's own depth bounded.
const DEPTH_MAX: u32 = 32;

/// The type that `text` names.
pub(super) fn parse(text: &str) -> Result<Type, String> {
    let mut parser = Parser { text, rest: text, depth: 0, next_id: 1 };
    let parsed = parser.field_type()?;
    if parser.rest.trim().is_empty() { Ok(parsed) } else { Err(parser.expected("the end")) }
}

/// The type as a job file names it.
pub(super) fn text(field_type: &Type) -> String {
    let null = |required: bool| if required { " not null" } else { "" };
    match field_type {
        Type::Primitive(primitive) => primitive.to_string(),
        Type::Struct(fields) => {
            let field = |field: &Arc<NestedField>| format!("`{}`: {}{}", field.name, text(&field.field_type), null(field.required));
            format!("struct<{}>", fields.fields().iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Type::List(list) => format!("list<{}{}>", text(&list.element_field.field_type), null(list.element_field.required)),
        Type::Map(map) => {
            let (key, value) = (&map.key_field, &map.value_field);
            format!("map<{}, {}{}>", text(&key.field_type), text(&value.field_type), null(value.required))
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
    depth: u32,
    next_id: i32,
}

impl<'t> Parser<'t> {
    fn field_type(&mut self) -> Result<Type, String> {
        let name = self.word();
        if name.is_empty() {
            return Err(self.expected("the name of a type"));
        }
        let lower = name.to_lowercase();
        if let Some((_, primitive)) = PRIMITIVES.iter().find(|(known, _)| *known == lower) {
            return Ok(Type::Primitive(primitive.clone()));
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("type is nested more than {DEPTH_MAX} levels deep"));
        }
        let parsed = match lower.as_str() {
            "decimal" => self.decimal(),
            "fixed" => self.fixed(),
            "struct" => self.structure(),
            "list" => self.list(),
            "map" => self.map(),
            _ => Err(unknown(name)),
        };
        self.depth -= 1;
        parsed
    }

    fn decimal(&mut self) -> Result<Type, String> {
        self.token('(', "decimal")?;
        let precision = self.number()?;
        self.token(',', "decimal")?;
        let scale = self.number()?;
        self.token(')', "decimal")?;
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(format!(
                "decimal({precision}, {scale}) does not exist: the precision is 1 to 38 digits, the scale 0 to the precision"
            ));
        }
        Ok(Type::Primitive(PrimitiveType::Decimal { precision, scale }))
    }

    fn fixed(&mut self) -> Result<Type, String> {
        self.token('(', "fixed")?;
        let bytes = self.number()?;
        self.token(')', "fixed")?;
        if bytes == 0 {
            return Err(String::from("fixed(0) does not exist: a fixed value has at least one byte"));
        }
        Ok(Type::Primitive(PrimitiveType::Fixed(u64::from(bytes))))
    }

    fn structure(&mut self) -> Result<Type, String> {
        self.token('<', "struct")?;
        let mut fields: Vec<Arc<NestedField>> = Vec::new();
        loop {
            let name = self.field_name()?;
            if fields.iter().any(|field| field.name == name) {
                return Err(format!("field `{name}` is given twice in one struct"));
            }
            self.token(':', "struct")?;
            let id = self.id();
            let (field_type, required) = self.element()?;
            fields.push(Arc::new(NestedField::new(id, name, field_type, required)));
            if !self.skip(',') {
                break;
            }
        }
        self.token('>', "struct")?;
        Ok(Type::Struct(StructType::new(fields)))
    }

    fn list(&mut self) -> Result<Type, String> {
        self.token('<', "list")?;
        let id = self.id();
        let (element, required) = self.element()?;
        self.token('>', "list")?;
        Ok(Type::List(ListType::new(Arc::new(NestedField::list_element(id, element, required)))))
    }

    fn map(&mut self) -> Result<Type, String> {
        self.token('<', "map")?;
        let (key_id, value_id) = (self.id(), self.id());
        let key = self.field_type()?;
        self.token(',', "map")?;
        let (value, required) = self.element()?;
        self.token('>', "map")?;
        let key = NestedField::map_key_element(key_id, key);
        let value = NestedField::map_value_element(value_id, value, required);
        Ok(Type::Map(MapType::new(Arc::new(key), Arc::new(value))))
    }

    /// A type, and whether `not null` follows it.
    fn element(&mut self) -> Result<(Type, bool), String> {
        let field_type = self.field_type()?;
        let before = self.rest;
        if !self.word().eq_ignore_ascii_case("not") {
            self.rest = before;
            return Ok((field_type, false));
        }
        if self.word().eq_ignore_ascii_case("null") { Ok((field_type, true)) } else { Err(self.expected("`null` after `not`")) }
    }

    /// A word, or anything between backticks.
    fn field_name(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        let name = match self.rest.strip_prefix('`').and_then(|quoted| quoted.split_once('`')) {
            Some((name, rest)) => {
                self.rest = rest;
                name
            }
            None => self.word(),
        };
        if name.is_empty() { Err(self.expected("the name of a field")) } else { Ok(name.to_owned()) }
    }

    fn word(&mut self) -> &'t str {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.rest = &rest[end..];
        &rest[..end]
    }

    fn number(&mut self) -> Result<u32, String> {
        let before = self.rest;
        match self.word().parse() {
            Ok(number) if number <= i32::MAX.unsigned_abs() => Ok(number),
            _ => {
                self.rest = before;
                Err(self.expected("a whole number"))
            }
        }
    }

    fn skip(&mut self, token: char) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn token(&mut self, token: char, of: &str) -> Result<(), String> {
        if self.skip(token) {
            return Ok(());
        }
        let example = PARAMETRIC.iter().find(|(name, _)| *name == of).map_or(of, |(_, example)| example);
        Err(format!("{}; write it as `{example}`", self.expected(&format!("`{token}`"))))
    }

    fn expected(&self, what: &str) -> String {
        let rest = self.rest.trim();
        if rest.is_empty() {
            format!("expected {what} at the end of type `{}`", self.text)
        } else {
            format!("expected {what} before `{rest}` in type `{}`", self.text)
        }
    }

    /// Ids are handed out before the fields inside, so that a parent's is lower than its children's.
    fn id(&mut self) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

fn unknown(name: &str) -> String {
    let lower = name.to_lowercase();
    let foreign = FOREIGN.iter().find(|(other, _)| *other == lower).map(|(_, ours)| *ours);
    let known = PRIMITIVES.iter().map(|(name, _)| *name).chain(PARAMETRIC.iter().map(|(name, _)| *name));
    match foreign.or_else(|| nearest(name, known)) {
        Some(ours) => {
            let written = PARAMETRIC.iter().find(|(name, _)| *name == ours).map_or(ours, |(_, example)| example);
            format!("unknown type `{name}`; did you mean `{written}`?")
        }
        None => {
            let primitives: Vec<&str> = PRIMITIVES.iter().map(|(name, _)| *name).collect();
            let parametric: Vec<&str> = PARAMETRIC.iter().map(|(_, example)| *example).collect();
            format!("unknown type `{name}`; types are {}, {}", primitives.join(", "), parametric.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The type as Iceberg's own JSON has it: an independent description of names, ids and required fields.
    fn json(text: &str) -> String {
        serde_json::to_string(&parse(text).unwrap()).unwrap()
    }

    #[test]
    fn reads_primitive_types() {
        for (name, primitive) in PRIMITIVES {
            assert_eq!(parse(name), Ok(Type::Primitive(primitive.clone())), "{name}");
        }
        assert_eq!(json("decimal(10,2)"), r#""decimal(10, 2)""#);
        assert_eq!(json(" Decimal ( 38 , 0 ) "), r#""decimal(38, 0)""#);
        assert_eq!(json("fixed(32)"), r#""fixed[32]""#);
        assert_eq!(json("TIMESTAMPTZ"), r#""timestamptz""#);
    }

    #[test]
    fn reads_nested_types() {
        insta::assert_snapshot!(json("struct<a: int not null, `b c`: string>"), @r#"{"type":"struct","fields":[{"id":1,"name":"a","required":true,"type":"int"},{"id":2,"name":"b c","required":false,"type":"string"}]}"#);
        insta::assert_snapshot!(json("list<struct<x: double NOT NULL, y: map<string, list<long not null>>>>"), @r#"{"type":"list","element-id":1,"element-required":false,"element":{"type":"struct","fields":[{"id":2,"name":"x","required":true,"type":"double"},{"id":3,"name":"y","required":false,"type":{"type":"map","key-id":4,"key":"string","value-id":5,"value-required":false,"value":{"type":"list","element-id":6,"element-required":true,"element":"long"}}}]}}"#);
        insta::assert_snapshot!(json("map<string, struct<a:int,b:int> not null>"), @r#"{"type":"map","key-id":1,"key":"string","value-id":2,"value-required":true,"value":{"type":"struct","fields":[{"id":3,"name":"a","required":false,"type":"int"},{"id":4,"name":"b","required":false,"type":"int"}]}}"#);
    }

    #[test]
    fn says_what_is_wrong() {
        let mut said = String::new();
        for text in [
            "",
            "strng",
            "bigint",
            "varchar(10)",
            "array<int>",
            "geometry",
            "decimal",
            "decimal(10)",
            "decimal(39, 2)",
            "decimal(5, 6)",
            "fixed(0)",
            "fixed(99999999999)",
            "list<>",
            "list<int",
            "list<int>>",
            "map<string>",
            "struct<a int>",
            "struct<a: int, a: int>",
            "struct<a: int not>",
            "int not null",
        ] {
            said.push_str(&format!("{}\n", parse(text).unwrap_err()));
        }
        insta::assert_snapshot!(said, @r"
    expected the name of a type at the end of type ``
    unknown type `strng`; did you mean `string`?
    unknown type `bigint`; did you mean `long`?
    unknown type `varchar`; did you mean `string`?
    unknown type `array`; did you mean `list<string>`?
    unknown type `geometry`; types are boolean, int, long, float, double, date, time, timestamp, timestamptz, timestamp_ns, timestamptz_ns, string, uuid, binary, decimal(10, 2), fixed(16), struct<a: int, b: string>, list<string>, map<string, long>
    expected `(` at the end of type `decimal`; write it as `decimal(10, 2)`
    expected `,` before `)` in type `decimal(10)`; write it as `decimal(10, 2)`
    decimal(39, 2) does not exist: the precision is 1 to 38 digits, the scale 0 to the precision
    decimal(5, 6) does not exist: the precision is 1 to 38 digits, the scale 0 to the precision
    fixed(0) does not exist: a fixed value has at least one byte
    expected a whole number before `99999999999)` in type `fixed(99999999999)`
    expected the name of a type before `>` in type `list<>`
    expected `>` at the end of type `list<int`; write it as `list<string>`
    expected the end before `>` in type `list<int>>`
    expected `,` before `>` in type `map<string>`; write it as `map<string, long>`
    expected `:` before `int>` in type `struct<a int>`; write it as `struct<a: int, b: string>`
    field `a` is given twice in one struct
    expected `null` after `not` before `>` in type `struct<a: int not>`
    expected the end before `not null` in type `int not null`
    ");
    }

    #[test]
    fn refuses_endless_nesting() {
        let deep = "list<".repeat(100_000);
        assert_eq!(parse(&deep), Err(String::from("type is nested more than 32 levels deep")));
    }

    /// A type as the test understands it, written out by hand: the oracle for the parser.
    #[derive(Debug, Clone)]
    enum Written {
        Primitive(usize),
        Decimal(u32, u32),
        Fixed(u32),
        Struct(Vec<(String, Self, bool)>),
        List(Box<Self>, bool),
        Map(Box<Self>, Box<Self>, bool),
    }

    impl Written {
        fn text(&self, space: &str) -> String {
            let null = |required: &bool| if *required { " not null" } else { "" };
            match self {
                Self::Primitive(at) => PRIMITIVES[*at].0.to_owned(),
                Self::Decimal(precision, scale) => format!("decimal({precision},{space}{scale})"),
                Self::Fixed(bytes) => format!("fixed{space}({bytes})"),
                Self::Struct(fields) => {
                    let fields: Vec<String> = fields
                        .iter()
                        .map(|(name, t, required)| format!("`{name}`{space}:{}{}", t.text(space), null(required)))
                        .collect();
                    format!("struct<{}>", fields.join(&format!(",{space}")))
                }
                Self::List(element, required) => format!("list<{space}{}{}>", element.text(space), null(required)),
                Self::Map(key, value, required) => {
                    format!("map<{},{space}{}{}{space}>", key.text(space), value.text(space), null(required))
                }
            }
        }

        /// Whether `read` is this type, and the ids in it go on from `next` without one being used twice.
        fn is(&self, read: &Type, ids: &mut Vec<i32>) -> bool {
            match (self, read) {
                (Self::Primitive(at), Type::Primitive(read)) => PRIMITIVES[*at].1 == *read,
                (Self::Decimal(p, s), Type::Primitive(PrimitiveType::Decimal { precision, scale })) => (p, s) == (precision, scale),
                (Self::Fixed(bytes), Type::Primitive(PrimitiveType::Fixed(read))) => u64::from(*bytes) == *read,
                (Self::Struct(fields), Type::Struct(read)) => {
                    fields.len() == read.fields().len()
                        && fields.iter().zip(read.fields()).all(|((name, t, required), field)| {
                            ids.push(field.id);
                            *name == field.name && *required == field.required && t.is(&field.field_type, ids)
                        })
                }
                (Self::List(element, required), Type::List(read)) => {
                    ids.push(read.element_field.id);
                    *required == read.element_field.required && element.is(&read.element_field.field_type, ids)
                }
                (Self::Map(key, value, required), Type::Map(read)) => {
                    ids.extend([read.key_field.id, read.value_field.id]);
                    *required == read.value_field.required
                        && read.key_field.required
                        && key.is(&read.key_field.field_type, ids)
                        && value.is(&read.value_field.field_type, ids)
                }
                _ => false,
            }
        }
    }

    fn written() -> impl Strategy<Value = Written> {
        let leaf = prop_oneof![
            (0..PRIMITIVES.len()).prop_map(Written::Primitive),
            (1_u32..39).prop_flat_map(|p| (Just(p), 0..=p)).prop_map(|(p, s)| Written::Decimal(p, s)),
            (1_u32..100).prop_map(Written::Fixed),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::btree_map("[a-z ,<>:]{1,6}", (inner.clone(), any::<bool>()), 1..4).prop_map(|fields| {
                    Written::Struct(fields.into_iter().map(|(name, (t, required))| (name, t, required)).collect())
                }),
                (inner.clone(), any::<bool>()).prop_map(|(t, required)| Written::List(Box::new(t), required)),
                (inner.clone(), inner, any::<bool>()).prop_map(|(k, v, required)| Written::Map(Box::new(k), Box::new(v), required)),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_back_every_type(written in written(), space in "[ ]{0,2}") {
            let read = parse(&written.text(&space)).unwrap();
            let mut ids = Vec::new();
            prop_assert!(written.is(&read, &mut ids), "{read:?}");
            prop_assert_eq!(parse(&text(&read)), Ok(read));
            ids.sort_unstable();
            let count = i32::try_from(ids.len()).unwrap();
            prop_assert_eq!(ids, (1..=count).collect::<Vec<_>>());
        }

        #[test]
        fn never_panics(text in "\\PC*", near in "(struct<|list<|map<|a:|int|string|decimal\\(|fixed\\(|[0-9]|,|>|\\)|`| ){0,20}") {
            for text in [text, near] {
                let _answer = parse(&text);
            }
        }
    }
}
