//! A bug must not take the answer with it: a panic becomes an error like any other, and the run still reports.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::error::{Error, Result};

/// What the work answers, or the panic that ended it (101; 75 where it was for want of a thread).
///
/// # Errors
/// Only that panic.
pub fn caught<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T>> {
    // What the work held is dropped with it; nothing of it is used again. Boxed: a whole run is too large for the stack.
    let ended = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    async { ended.await.map_err(|panic| Error::of_panic(panic.as_ref())) }
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
