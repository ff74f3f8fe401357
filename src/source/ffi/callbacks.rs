//! What librdkafka calls by itself, on threads of its own or on ours while it is served: each hands what it is told to a room that
//! can judge it.

use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::Arc;

use rdkafka::config::NativeClientConfig;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;

use super::raw::{bytes, take_error, text};
use super::{Consumer, Failure};
use crate::error::Error;
use crate::source::health::{self, Health};
use crate::source::security::login::{Login, Token};

/// The opaque of every callback.
pub(super) struct Listener {
    pub(super) health: Arc<Health>,
    /// Who gets tokens, where the client logs in by one.
    pub(super) login: Option<Login>,
}

impl Listener {
    /// Has a client that is made of `config` call us. It must not outlive the listener.
    pub(super) fn listen(self: &Arc<Self>, config: &NativeClientConfig) {
        // SAFETY: `config` is a live configuration; its client keeps the `Arc`, so the opaque lives as long as it is called with.
        unsafe {
            sys::rd_kafka_conf_set_opaque(config.ptr(), Arc::as_ptr(self).cast_mut().cast());
            sys::rd_kafka_conf_set_error_cb(config.ptr(), Some(on_error));
            sys::rd_kafka_conf_set_stats_cb(config.ptr(), Some(on_statistics));
            sys::rd_kafka_conf_set_log_cb(config.ptr(), Some(on_log));
            sys::rd_kafka_conf_set_ssl_cert_verify_cb(config.ptr(), Some(on_certificate));
            if self.login.is_some() {
                sys::rd_kafka_conf_set_oauthbearer_token_refresh_cb(config.ptr(), Some(on_token));
                // Nobody serves the client while it is asked something that needs a connection, and that needs a token.
                sys::rd_kafka_conf_enable_sasl_queue(config.ptr(), 1);
                sys::rd_kafka_conf_set_events(config.ptr(), sys::RD_KAFKA_EVENT_BACKGROUND);
            }
        }
    }
}

impl Consumer {
    /// Has tokens asked for on a thread of librdkafka's.
    pub(super) fn log_in(&self) -> Result<(), Failure> {
        if self.listener.login.is_none() {
            return Ok(());
        }
        // SAFETY: the client is live; the error is null or ours, and `take_error` frees it.
        unsafe { take_error(sys::rd_kafka_sasl_background_callbacks_enable(self.client.as_ptr())) }
    }
}

unsafe extern "C" fn on_error(_: *mut sys::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    let code = RDKafkaRespErr::try_from(code).map_or(RDKafkaErrorCode::Unknown, Into::into);
    // SAFETY: the opaque is the `Listener` that the client keeps; the reason is a string or null for the length of the call.
    unsafe { (*opaque.cast::<Listener>()).health.heard(code, &text(reason)) };
}

unsafe extern "C" fn on_statistics(_: *mut sys::rd_kafka_t, json: *mut c_char, size: usize, opaque: *mut c_void) -> c_int {
    // SAFETY: as in `on_error`; `json` has `size` bytes and stays librdkafka's own, as the answer 0 says.
    unsafe { (*opaque.cast::<Listener>()).health.measured(bytes(json.cast(), size).unwrap_or_default()) };
    0
}

unsafe extern "C" fn on_log(_: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: both are strings for the length of the call.
    unsafe { health::log(level, &text(facility), &text(line)) };
}

/// OpenSSL's verdict stands; it is only kept, as librdkafka itself tells no more of it than "verify failed".
unsafe extern "C" fn on_certificate(
    _: *mut sys::rd_kafka_t,
    broker: *const c_char,
    _: i32,
    verdict: *mut c_int,
    _: c_int,
    _: *const c_char,
    _: usize,
    _: *mut c_char,
    _: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: as in `on_error`; the verdict is an integer of the caller's.
    unsafe {
        if *verdict == 0 {
            return 1;
        }
        (*opaque.cast::<Listener>()).health.distrusted(&text(broker), *verdict);
        0
    }
}

unsafe extern "C" fn on_token(client: *mut sys::rd_kafka_t, _: *const c_char, opaque: *mut c_void) {
    // SAFETY: as in `on_error`.
    let listener = unsafe { &*opaque.cast::<Listener>() };
    let Some(login) = &listener.login else { return };
    let outcome = caught(|| {
        login.token().and_then(|token| {
            // SAFETY: the client is live while it calls back.
            unsafe { set_token(client, &token) }.map_err(|reason| login.unusable(&reason))
        })
    });
    if outcome.is_err() {
        // SAFETY: as above. The text goes nowhere: the error itself is kept.
        unsafe { sys::rd_kafka_oauthbearer_set_token_failure(client, c"no token".as_ptr()) };
    }
    listener.health.logged_in(outcome);
}

/// What the work answers; its panic is an error too, as none may pass through librdkafka: it would end the process where it stands.
fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What the work held is dropped with it; nothing of it is used again.
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::of_panic(panic.as_ref())))
}

/// # Safety
/// A live client.
unsafe fn set_token(client: *mut sys::rd_kafka_t, token: &Token) -> Result<(), String> {
    let no_nul = |text: &str| CString::new(text).map_err(|_| String::from("it holds a NUL"));
    let (value, principal) = (no_nul(&token.value)?, no_nul(&token.principal)?);
    let extensions: Vec<_> =
        token.extensions.iter().flat_map(|(name, value)| [name, value]).map(|text| no_nul(text)).collect::<Result<_, _>>()?;
    let mut pointers: Vec<_> = extensions.iter().map(|text| text.as_ptr()).collect();
    let mut reason = [0_u8; 512];
    // SAFETY: said by the caller; every text lives through the call, which copies them, and writes at most `reason.len()` bytes.
    let code = unsafe {
        let extensions = if pointers.is_empty() { ptr::null_mut() } else { pointers.as_mut_ptr() };
        let (room, size) = (reason.as_mut_ptr().cast(), reason.len());
        sys::rd_kafka_oauthbearer_set_token(
            client,
            value.as_ptr(),
            token.ends_ms,
            principal.as_ptr(),
            extensions,
            pointers.len(),
            room,
            size,
        )
    };
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        // librdkafka's own words repeat the token.
        code => Err(RDKafkaErrorCode::from(code).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_on_the_way_to_a_token_is_why_there_is_none() {
        assert_eq!(caught(|| Ok(7)).unwrap(), 7);
        let health = Health::default();
        health.logged_in(caught(|| panic!("failed to spawn thread: Os {{ code: 11 }}")));
        assert_eq!(health.without_token().unwrap().exit_code(), 75);
        health.logged_in(caught(|| panic!("a bug")));
        assert_eq!(health.without_token().unwrap().exit_code(), 101);
    }
}
