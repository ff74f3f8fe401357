//! jemalloc's options, and the wish to have freed pages given back now.

use std::ffi::c_char;
use std::ptr::null_mut;

use tikv_jemalloc_sys::mallctl;

/// Freed pages stay for what is allocated next: to have them given back and cleared again took a quarter of a large run's time. What
/// holds the limit is [`purge`]. Blocks of 32 MiB and more (huge records, the list of a large batch's ids, joined columns) are given
/// back when they are freed. Few arenas, since what one thread decodes another frees; and a thread keeps only small blocks for
/// itself, since what it keeps no purge gives back.
const OPTIONS: &[u8; 92] = b"dirty_decay_ms:10000,muzzy_decay_ms:0,narenas:4,oversize_threshold:33554432,tcache_max:4096\0";

/// jemalloc(3), "TUNING": read before `main`, from a symbol of this name.
#[expect(unsafe_code, reason = "the name is jemalloc's; nothing else in the program has it")]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: Option<&'static u8> = Some(&OPTIONS[0]);

/// jemalloc's `MALLCTL_ARENAS_ALL` is 4096.
const PURGE_ALL: &std::ffi::CStr = c"arena.4096.purge";

/// Gives every freed page back to the system.
#[expect(unsafe_code, reason = "jemalloc's control has no safe form")]
pub(super) fn purge() {
    let name: *const c_char = PURGE_ALL.as_ptr();
    // SAFETY: the name ends in a zero; this control takes and answers no value, so that all other pointers may be null.
    let refused = unsafe { mallctl(name, null_mut(), null_mut(), null_mut(), 0) };
    debug_assert_eq!(refused, 0, "jemalloc knows `arena.<i>.purge`");
}
