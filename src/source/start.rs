//! Starts the client, and does not wait for it for ever.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::error::{Error, Result};

/// It takes milliseconds; on a machine that is overloaded, seconds.
const START_MAX: Duration = Duration::from_secs(15);

/// What `make` makes, on a thread of its own: where librdkafka is refused one of its threads, `rd_kafka_new` waits for ever for
/// those that it has. Such a thread is left behind, and ends with the process.
pub(super) fn started<T: Send + 'static>(make: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    within(START_MAX, make)
}

fn within<T: Send + 'static>(limit: Duration, make: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (send, made) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("kafka-start".into());
    // Whoever has given up waiting does not want the answer.
    thread.spawn(move || send.send(make()).ok()).map_err(|error| refused(error.to_string()))?;
    made.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => refused(format!("no client after {} s", limit.as_secs())),
        RecvTimeoutError::Disconnected => Error::broken("librdkafka's start ended without a client"),
    })?
}

/// The system gives no thread now.
pub(super) fn refused(what: String) -> Error {
    Error::without_thread("start the threads of the Kafka client", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_never_starts_is_an_error() {
        let error = within(Duration::from_millis(20), || {
            std::thread::park();
            Ok(())
        });
        assert_eq!(error.unwrap_err().exit_code(), 75);
        assert_eq!(started(|| Ok(7)).unwrap(), 7);
    }
}
