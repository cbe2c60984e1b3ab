//! Runs [`nsm_fuzz::yaml_roles`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::yaml_roles(data));
