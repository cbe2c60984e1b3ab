//! Runs [`nsm_fuzz::workload_api`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsm_fuzz::workload_api(data));
