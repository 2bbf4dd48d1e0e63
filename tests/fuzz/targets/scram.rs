//! `mdb_fuzz::scram` under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mdb_fuzz::scram::check(input));
