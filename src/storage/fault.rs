//! What a failure of a store, or of a library that reads through one, means: who acts, and whether asking again can help.
//!
//! Pure. The types of `object_store` tell a part of it; status and code of other answers stand only in their text.

use std::error::Error as StdError;
use std::io::ErrorKind;

use object_store::client::{HttpError, HttpErrorKind};
use parquet::errors::ParquetError;

use crate::error::{BoxError, Error};

/// Turns what a storage, or a library that reads through one, says into an error that says who acts: looks through all causes for
/// a refused permission (77), a missing or damaged file (78), a missing bucket or folder (78), a name that exists (101); anything
/// else is temporary (75).
pub(crate) fn failed(doing: impl FnOnce() -> String, source: impl Into<BoxError>) -> Error {
    let source = source.into();
    match fault(source.as_ref()) {
        Fault::Denied(None) => Error::Denied { doing: doing(), source },
        Fault::Denied(Some(why)) => Error::Denied { doing: format!("{} ({why})", doing()), source },
        Fault::Exists => Error::broken(format!("could not {}: a file of this name exists, and no two runs share a name", doing())),
        Fault::Missing => Error::setup(
            format!("could not {}: it does not exist", doing()),
            "the table names a file that is gone; restore it, or roll the table back to a snapshot without it",
        ),
        Fault::Unfit(why, hint) => Error::setup(format!("could not {}: {why}", doing()), hint),
        Fault::Refused(answer) => Error::setup(
            format!("could not {}: the store refuses the request: {answer}", doing()),
            "are the properties of the store in `[catalog]` (endpoint, region, path style, encryption) right?",
        ),
        Fault::Damaged => Error::Damaged { doing: doing(), source },
        Fault::Setup(what, hint) => Error::Setup { what, hint },
        Fault::Temporary => Error::Unavailable { doing: doing(), source },
    }
}

/// Whether an error comes from what a file holds, so that trying again cannot help: it was read, and is not what it should be.
pub(crate) fn is_damage(error: &Error) -> bool {
    let source = match error {
        Error::Refused { .. } | Error::Damaged { .. } => return true,
        Error::Unavailable { source, .. } => source,
        _ => return false,
    };
    let mut content = false;
    for error in causes(source.as_ref()) {
        if error.is::<object_store::Error>() {
            return false;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::Other)
        {
            return false;
        }
        content |= error.is::<ParquetError>() || error.is::<iceberg::Error>();
    }
    content
}

/// What the one who asked a store can do about its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Fetch other credentials.
    Expired,
    /// Look what became of it, or ask again.
    Unanswered,
    /// Do without: the store does not know such a request.
    Unknown,
    Other,
}

pub(super) fn trouble(error: &object_store::Error) -> Trouble {
    const EXPIRED: [&str; 4] =
        ["ExpiredToken", "TokenRefreshRequired", "Signature not valid in the specified time frame", "token expired"];
    for cause in causes(error) {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            let unanswered = matches!(http.kind(), HttpErrorKind::Timeout | HttpErrorKind::Interrupted | HttpErrorKind::Request);
            return if unanswered { Trouble::Unanswered } else { Trouble::Other };
        }
    }
    let answer = answer(error);
    match answer.as_ref().map(|answer| (answer.status, answer.body.as_str())) {
        Some((401, _)) => Trouble::Expired,
        // An answer to HEAD says no more than its status.
        Some((400 | 403, body)) if body.is_empty() || EXPIRED.iter().any(|text| body.contains(text)) => Trouble::Expired,
        // What a store answers with 501 arrives as 405.
        Some((405, _)) => Trouble::Unknown,
        _ => Trouble::Other,
    }
}

/// Whether a store gave no answer, or asked to come again, after all the tries that the client makes: who asks it something else
/// waits as long again. A 500 is left out, and so is an answer that broke off: some stores answer so to a range behind a file's end.
pub(crate) fn is_down(error: &(dyn StdError + 'static)) -> bool {
    let silent =
        |error: &HttpError| matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Timeout);
    let is_silent = causes(error).any(|error| error.downcast_ref().is_some_and(silent));
    is_silent || answer(error).is_some_and(|answer| matches!(answer.status, 408 | 429 | 502..=504))
}

enum Fault {
    /// With what stands behind it, where that is known.
    Denied(Option<&'static str>),
    Exists,
    Missing,
    /// What is wrong, and what to do.
    Unfit(&'static str, &'static str),
    /// The answer of a store.
    Refused(String),
    Damaged,
    Setup(String, String),
    Temporary,
}

fn fault(error: &(dyn StdError + 'static)) -> Fault {
    let mut damaged = false;
    for error in causes(error) {
        if let Some(error) = error.downcast_ref::<Error>() {
            match error {
                Error::Denied { .. } => return Fault::Denied(None),
                Error::Setup { what, hint } => return Fault::Setup(what.clone(), hint.clone()),
                _ => {}
            }
        } else if let Some(error) = error.downcast_ref::<object_store::Error>() {
            if let Some(fault) = fault_of_store(error) {
                return fault;
            }
        } else if let Some(error) = error.downcast_ref::<std::io::Error>() {
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => return Fault::Denied(None),
                ErrorKind::NotFound => return Fault::Missing,
                ErrorKind::NotADirectory => {
                    return Fault::Unfit(
                        "a part of its path is no folder but a file",
                        "is the path right? move the file away, or choose another place",
                    );
                }
                ErrorKind::AlreadyExists => return Fault::Exists,
                _ => {}
            }
        }
        // Trying again reads the same bytes; what a store says beneath it counts for more.
        match error.downcast_ref::<ParquetError>() {
            Some(ParquetError::External(_)) => damaged = false,
            Some(_) => damaged = true,
            None => {}
        }
        damaged |= error.downcast_ref::<iceberg::Error>().is_some_and(|error| error.kind() == iceberg::ErrorKind::DataInvalid);
    }
    if damaged { Fault::Damaged } else { Fault::Temporary }
}

fn fault_of_store(error: &object_store::Error) -> Option<Fault> {
    const CLOCK: &str = "the clock of this machine and the store's differ too much";
    const NOBODY: &str = "neither the job file nor the environment gives credentials, and this machine's metadata service has none";
    // What servers that give out tokens answer with 400.
    const TOKENS: [&str; 4] = ["invalid_client", "invalid_grant", "unauthorized_client", "InvalidIdentityToken"];
    let text = texts(error);
    let says = |code: &str| text.contains(code);
    match error {
        _ if says("RequestTimeTooSkewed") || says("RequestExpired") => return Some(Fault::Denied(Some(CLOCK))),
        _ if says("ExpiredToken") => return Some(Fault::Denied(Some("the credentials have expired"))),
        _ if says("NoSuchBucket") || says("ContainerNotFound") || says("The specified bucket does not exist") => {
            return Some(Fault::Unfit(
                "its bucket does not exist",
                "make the bucket; or are its name, the endpoint and the region right?",
            ));
        }
        _ if says("Received redirect without LOCATION") || says("PermanentRedirect") || says("AuthorizationHeaderMalformed") => {
            return Some(Fault::Unfit("its bucket is in another region", "set `catalog.\"s3.region\"` or AWS_REGION"));
        }
        _ if says("invalid peer certificate") || says("received fatal alert") => {
            return Some(Fault::Denied(Some(
                "the server's certificate is not trusted; `catalog.\"ssl.cabundle\"` names authorities of your own",
            )));
        }
        _ if says("metadata.google.internal") || says("169.254.169.254") => return Some(Fault::Denied(Some(NOBODY))),
        _ if TOKENS.iter().any(|code| says(code)) => return Some(Fault::Denied(None)),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            return Some(Fault::Denied(None));
        }
        object_store::Error::NotFound { .. } => return Some(Fault::Missing),
        object_store::Error::AlreadyExists { .. } => return Some(Fault::Exists),
        _ => {}
    }
    let answer = answer(error)?;
    match answer.status {
        401 | 403 => Some(Fault::Denied(None)),
        400 if answer.body.contains("InvalidToken") || answer.body.contains("InvalidAccessKeyId") => Some(Fault::Denied(None)),
        416 => Some(Fault::Unfit(
            "it ends before the bytes that the table says it has",
            "the file was cut or replaced after it was written; restore it, or roll the table back",
        )),
        408 | 429 => None,
        400..=499 => Some(Fault::Refused(answer.to_string())),
        _ => None,
    }
}

/// Characters of an answer in no known form that a message repeats.
const BODY_SHOWN: usize = 200;

/// An answer of a store that is no success.
struct Answer {
    status: u16,
    body: String,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = |name: &str| {
            let (_, after) = self.body.split_once(&format!("<{name}>"))?;
            Some(after.split_once("</")?.0)
        };
        match (field("Code"), field("Message")) {
            (Some(code), Some(message)) => write!(f, "{} {code}: {message}", self.status),
            (Some(code), None) => write!(f, "{} {code}", self.status),
            _ => {
                let start: String = self.body.chars().take(BODY_SHOWN).filter(|c| !c.is_control()).collect();
                write!(f, "{} {start}", self.status)
            }
        }
    }
}

fn answer(error: &(dyn StdError + 'static)) -> Option<Answer> {
    const BEFORE: &str = "non-2xx status code: ";
    let text = causes(error).map(ToString::to_string).filter(|text| text.contains(BEFORE)).last()?;
    let (_, after) = text.split_once(BEFORE)?;
    let status = after.get(..3)?.parse().ok()?;
    // `400 Bad Request: <?xml ...`
    let body = after.split_once(": ").map(|(_, body)| body.trim()).unwrap_or_default();
    Some(Answer { status, body: body.to_owned() })
}

fn texts(error: &object_store::Error) -> String {
    causes(error).last().map(|last| format!("{error} {last}")).unwrap_or_default()
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_down_is_told_from_one_that_has_less_than_was_asked_for() {
        let of_store = |source: BoxError| object_store::Error::Generic { store: "S3", source };
        let silence = |kind| of_store(HttpError::new(kind, std::io::Error::other("gone")).into());
        let status = |line: &str| of_store(format!("after 8 retries: non-2xx status code: {line}").into());
        for down in
            [silence(HttpErrorKind::Connect), silence(HttpErrorKind::Timeout), status("503 Slow: x"), status("429 Later: x")]
        {
            assert!(is_down(&down), "{down}");
            assert!(is_down(&ParquetError::External(down.into())));
        }
        for up in [silence(HttpErrorKind::Interrupted), status("500 Oops: x"), status("416 Range: x")] {
            assert!(!is_down(&up), "{up}");
        }
    }
}
