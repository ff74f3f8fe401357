//! Gives inputs of libFuzzer to the law that `FUZZ_TARGET` names.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tidegate::laws::{Law, law};

static LAW: OnceLock<Law> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        LAW.get_or_init(|| law(&name).unwrap_or_else(|| panic!("no target `{name}`")));
    },
    |data: &[u8]| LAW.get().expect("set by init")(data)
);
