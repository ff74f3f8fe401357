//! Lets librdkafka wait by the monotonic clock.
//!
//! Where the C library has C11 threads, librdkafka waits with `cnd_timedwait`, whose deadline is a moment of the wall clock: a
//! wait of one millisecond takes an hour when the machine's clock is stepped back by an hour meanwhile, and the run with it. The
//! function here has the same name, so the linker takes it instead of the C library's; it turns the deadline into a span at once.

use std::ffi::{c_int, c_void};

/// As in C where both fields have 64 bits.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

const SECOND: i64 = 1_000_000_000;

// From Linux's `time.h` and `errno.h`, and glibc's `threads.h`.
const CLOCK_REALTIME: c_int = 0;
const CLOCK_MONOTONIC: c_int = 1;
const ETIMEDOUT: c_int = 110;
const THRD_SUCCESS: c_int = 0;
const THRD_ERROR: c_int = 2;
const THRD_TIMEDOUT: c_int = 4;

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn pthread_cond_clockwait(condition: *mut c_void, mutex: *mut c_void, clock: c_int, until: *const Timespec) -> c_int;
}

/// C11's wait for a condition, up to a moment of the wall clock.
///
/// # Safety
/// As in C: a live condition and deadline, and a mutex that the calling thread holds.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(condition: *mut c_void, mutex: *mut c_void, until: *const Timespec) -> c_int {
    // SAFETY: said by the caller.
    let until = unsafe { *until };
    let wake = after(now(CLOCK_MONOTONIC), span(now(CLOCK_REALTIME), until));
    // SAFETY: said by the caller; in glibc a `cnd_t` is a `pthread_cond_t`, and a `mtx_t` a `pthread_mutex_t`.
    match unsafe { pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &raw const wake) } {
        0 => THRD_SUCCESS,
        ETIMEDOUT => THRD_TIMEDOUT,
        _ => THRD_ERROR,
    }
}

/// Names the function where a client is made: the linker takes only what is named somewhere, and librdkafka's own wish for it
/// comes after the C library could answer.
pub(super) fn wait_by_the_monotonic_clock() {
    std::hint::black_box(cnd_timedwait as unsafe extern "C" fn(_, _, _) -> _);
}

fn now(clock: c_int) -> Timespec {
    let mut time = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: writes the one struct that it is given. Both clocks exist on every Linux, so there is nothing to fail.
    unsafe { clock_gettime(clock, &raw mut time) };
    time
}

/// Nanoseconds from one moment to another, none if that is over.
fn span(from: Timespec, to: Timespec) -> i64 {
    let seconds = to.seconds.saturating_sub(from.seconds);
    seconds.saturating_mul(SECOND).saturating_add(to.nanos - from.nanos).max(0)
}

fn after(time: Timespec, nanos: i64) -> Timespec {
    let nanos = time.nanos.saturating_add(nanos);
    Timespec { seconds: time.seconds.saturating_add(nanos / SECOND), nanos: nanos % SECOND }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: i64) -> Timespec {
        Timespec { seconds, nanos }
    }

    #[test]
    fn a_deadline_becomes_a_span_and_a_span_a_moment() {
        assert_eq!(span(at(10, 900_000_000), at(12, 100_000_000)), 1_200_000_000);
        assert_eq!(span(at(12, 0), at(10, 0)), 0, "what is over is not waited for");
        assert_eq!(span(at(0, 0), at(i64::MAX, 999_999_999)), i64::MAX, "as good as for ever");
        let wake = after(at(5, 900_000_000), 1_200_000_000);
        assert_eq!((wake.seconds, wake.nanos), (7, 100_000_000));
    }
}
