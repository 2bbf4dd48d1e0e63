//! `mdb_fuzz::message` under libFuzzer.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use mdb_fuzz::mutation::{self, Shape};

fuzz_target!(|input: &[u8]| mdb_fuzz::message::check(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutation::mutate(Shape::Message, data, size, max_size, seed, fuzzer_mutate)
});
