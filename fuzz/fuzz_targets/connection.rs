//! Runs [`nsm_fuzz::connection`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::connection(data));
