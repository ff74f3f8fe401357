//! Bytes on their way between the threads of a batch. Chunks are counted by their channels, but one record can be a hundred times
//! as large as a chunk: sixteen of those waiting would be no bound at all.

use std::sync::{Condvar, Mutex, PoisonError};

/// A gate that lets chunks pass while few bytes are behind it.
#[derive(Debug)]
pub(super) struct Flight {
    max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    closed: bool,
}

impl Flight {
    /// With nothing behind it, for at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits until there is room. What is larger than the bound passes alone, so that no record is too large to get past.
    /// Answers `false` once the gate is closed.
    pub(super) fn enter(&self, bytes: usize) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |state: &mut State| !state.closed && state.bytes > 0 && state.bytes + bytes > self.max;
        let mut state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.bytes += bytes;
        !state.closed
    }

    /// Takes out what entered.
    pub(super) fn leave(&self, bytes: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bytes -= bytes;
        self.changed.notify_all();
    }

    /// Nobody takes anything out any more.
    pub(super) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Long enough for a thread that may go on to have gone on.
    const A_WHILE: Duration = Duration::from_millis(100);
    /// Longer than any machine takes to let one go on.
    const AGES: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_too_large_passes_alone_and_the_rest_waits_for_room() {
        let flight = Flight::new(10);
        let (passed, seen) = mpsc::channel();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for bytes in [4, 6, 1_000, 1] {
                    assert!(flight.enter(bytes));
                    passed.send(bytes).unwrap();
                }
                assert!(!flight.enter(1_000), "closed");
                passed.send(0).unwrap();
            });
            let next = || seen.recv_timeout(AGES).ok();
            let stays = || seen.recv_timeout(A_WHILE).is_err();
            assert_eq!((next(), next()), (Some(4), Some(6)));
            assert!(stays());
            flight.leave(4);
            assert!(stays());
            flight.leave(6);
            assert_eq!(next(), Some(1_000));
            assert!(stays());
            flight.leave(1_000);
            assert_eq!(next(), Some(1));
            assert!(stays());
            flight.close();
            assert_eq!(next(), Some(0));
        });
    }
}
