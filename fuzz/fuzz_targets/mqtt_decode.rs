//! libFuzzer's way into `mqtt_fuzz::decode`, which says what must hold and how an input is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_fuzz::{Seen, decode};

fuzz_target!(|input: &[u8]| decode::run(input, &mut Seen::ignored()));
