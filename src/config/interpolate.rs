//! Fills variables into the strings of a job file: `${NAME}`, `${NAME:-default}`, `$$` for a dollar sign.
//!
//! Pure. What a variable holds is never looked at again, so a value cannot smuggle in another variable.

use std::ffi::OsString;

/// The text with its variables filled in, or everything that is wrong with it.
///
/// As in a shell a default also stands in for an empty variable. A dollar sign alone is a mistake: `$HOME` would look filled in
/// and would not be.
pub(super) fn interpolate(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<String, Vec<String>> {
    let mut filled = String::with_capacity(text.len());
    let mut reasons = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = after.find('}') else {
                reasons.push(String::from("`${` is never closed by `}`"));
                break;
            };
            match variable(&after[..end], env) {
                Ok(value) => filled.push_str(&value),
                Err(reason) => reasons.push(reason),
            }
            rest = &after[end + 1..];
        } else {
            reasons.push(String::from("a variable is written `${NAME}`, a dollar sign `$$`"));
        }
    }
    filled.push_str(rest);
    if reasons.is_empty() { Ok(filled) } else { Err(reasons) }
}

fn variable(inside: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        // What stands there is not repeated: it may be a password that holds these signs.
        return Err(String::from(
            "`${..}` does not name a variable; write `${NAME}` or `${NAME:-default}`, and `$$` for a dollar sign",
        ));
    }
    // What it holds is not repeated: it may be a password.
    let value = env(name).map(OsString::into_string).transpose();
    let value = value.map_err(|_| format!("environment variable `{name}` is not UTF-8 text; set it to text that is"))?;
    match (value, default) {
        (None, None) => Err(format!("environment variable `{name}` is not set; set it, or write `${{{name}:-default}}`")),
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) if default.contains("${") => {
            Err(format!("the default of `{name}` holds a variable itself, which is not possible"))
        }
        (_, Some(default)) => Ok(default.replace("$$", "$")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<&str, &[&str]>) {
        let env = |name: &str| match name {
            "TOPIC" => Some("articles".into()),
            "EMPTY" => Some(OsString::new()),
            "NESTED" => Some("${TOPIC}$$".into()),
            "LATIN" => Some(OsString::from_vec(b"caf\xe9".to_vec())),
            _ => None,
        };
        let expected = expected.map(str::to_owned).map_err(|reasons| reasons.iter().map(|&reason| reason.to_owned()).collect());
        assert_eq!(interpolate(text, &env), expected, "{text}");
    }

    #[test]
    fn fills_in_variables_and_defaults() {
        check("plain", Ok("plain"));
        check("${TOPIC}", Ok("articles"));
        check("a-${TOPIC}.${TOPIC}-b", Ok("a-articles.articles-b"));
        check("${NOT_SET:-localhost:9092}", Ok("localhost:9092"));
        check("${TOPIC:-other}", Ok("articles"));
        check("${EMPTY:-other}", Ok("other"));
        check("[${EMPTY}]", Ok("[]"));
        check("${NOT_SET:-}", Ok(""));
    }

    #[test]
    fn escapes_and_never_expands_twice() {
        check("pa$$word", Ok("pa$word"));
        check("$${TOPIC}", Ok("${TOPIC}"));
        check("$$${TOPIC}", Ok("$articles"));
        check("${NESTED}", Ok("${TOPIC}$$"));
        check("${NOT_SET:-a$$b}", Ok("a$b"));
    }

    #[test]
    fn names_everything_that_is_wrong() {
        check(
            "${A}/${B}",
            Err(&[
                "environment variable `A` is not set; set it, or write `${A:-default}`",
                "environment variable `B` is not set; set it, or write `${B:-default}`",
            ]),
        );
        let no_text = "environment variable `LATIN` is not UTF-8 text; set it to text that is";
        check("${LATIN}${LATIN:-x}", Err(&[no_text, no_text]));
        check("$HOME", Err(&["a variable is written `${NAME}`, a dollar sign `$$`"]));
        check("${TOPIC", Err(&["`${` is never closed by `}`"]));
        let no_name = "`${..}` does not name a variable; write `${NAME}` or `${NAME:-default}`, and `$$` for a dollar sign";
        check("${}", Err(&[no_name]));
        check("pass${A-b}word", Err(&[no_name]));
        check("${A:-${TOPIC}}", Err(&["the default of `A` holds a variable itself, which is not possible"]));
    }

    proptest! {
        #[test]
        fn text_with_its_dollars_doubled_is_left_alone(text in "\\PC*") {
            prop_assert_eq!(interpolate(&text.replace('$', "$$"), &|_| None), Ok(text));
        }

        #[test]
        fn any_value_is_taken_as_it_is(before in "[a-z$]{0,5}", value in "\\PC+", after in "[a-z$]{0,5}") {
            let text = format!("{}${{V:-x}}{}", before.replace('$', "$$"), after.replace('$', "$$"));
            let filled = interpolate(&text, &|_| Some(value.clone().into()));
            prop_assert_eq!(filled, Ok(format!("{before}{value}{after}")));
        }

        #[test]
        fn never_panics(text in "[${}:a-c-]{0,20}") {
            let _answer = interpolate(&text, &|_| None);
        }
    }
}
