//! `mdb_fuzz::manifest` under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mdb_fuzz::manifest::check(input));
