//! A bug must not take the answer with it: a panic becomes an error like any other, and the run still reports.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::error::{Advice, Error, Result, THREADS_HINT};

/// How tokio and the standard library panic where the system refuses them a thread: that is no bug.
const REFUSED_THREAD: [&str; 2] = ["OS can't spawn worker thread", "failed to spawn thread"];

/// What the work answers, or the panic that ended it (101; 75 where it was for want of a thread).
///
/// # Errors
/// Only that panic.
pub fn caught<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T>> {
    // What the work held is dropped with it; nothing of it is used again. Boxed: a whole run is too large for the stack.
    let ended = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    async {
        ended.await.map_err(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            of_panic(said.unwrap_or("it says nothing"))
        })
    }
}

fn of_panic(said: &str) -> Error {
    if REFUSED_THREAD.iter().any(|refused| said.starts_with(refused)) {
        return Error::unavailable("start a thread", Advice { what: said.to_owned(), hint: THREADS_HINT.into() });
    }
    Error::broken(format!("a panic: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_with_a_code_and_what_it_said() {
        assert_eq!(caught(async { 7 }).await.unwrap(), 7);
        let said = |error: Error| (error.exit_code(), error.to_string());
        let number = 3;
        let formatted = caught(async { assert_eq!(number, 4, "four") }).await.unwrap_err();
        assert!(said(formatted).1.starts_with("internal error: a panic: assertion `left == right` failed: four"));
        let plain = caught(async { panic!("plain") }).await.unwrap_err();
        assert_eq!(said(plain), (101, "internal error: a panic: plain".to_owned()));
        let refused = caught(async { panic!("failed to spawn thread: Os {{ code: 11 }}") }).await.unwrap_err();
        assert_eq!(said(refused), (75, "could not start a thread".to_owned()));
    }
}
