//! `mdb_fuzz::reply` under libFuzzer.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use mdb_fuzz::mutation::{self, Shape};

fuzz_target!(|input: &[u8]| mdb_fuzz::reply::check(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutation::mutate(Shape::Reply, data, size, max_size, seed, fuzzer_mutate)
});
