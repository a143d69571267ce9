//! libFuzzer's way into `mqtt_fuzz::connection`, which says what must hold and how an input is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_fuzz::{Seen, connection};

fuzz_target!(|input: &[u8]| connection::run(input, &mut Seen::ignored()));
