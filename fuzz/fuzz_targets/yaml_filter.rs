//! Runs [`nsm_fuzz::yaml_filter`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::yaml_filter(data));
