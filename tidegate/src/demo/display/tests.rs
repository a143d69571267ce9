//! What is drawn, by its bytes.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::Rc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Display, Scene, thousands};
use crate::demo::fleet::Totals;

#[derive(Clone, Default)]
struct Written(Rc<RefCell<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn take(&self) -> String {
        String::from_utf8(self.0.take()).unwrap()
    }
}

fn scene() -> Scene {
    let totals = Totals::default();
    totals.acknowledged.set(1234);
    totals.unacknowledged.set(6);
    Scene {
        devices: 20,
        seconds: 60,
        started: Instant::now(),
        totals: Rc::new(totals),
        samples: watch::channel(None).1,
        gateway: watch::channel(None).1,
        uplink: Rc::new(Cell::new("cut")),
    }
}

#[test]
fn numbers_are_one_plain_line_when_there_is_no_terminal() {
    let written = Written::default();
    let display = Display::on(Box::new(written.clone()), false);
    display.begin("Act 1", "Something happens.");
    assert_eq!(written.take(), "\nAct 1\n  Something happens.\n");
    display.draw(&scene());
    assert_eq!(
        written.take(),
        "   0 s  published 1,240 · on flash ? (?) · waiting ? · replicated ? · lag ? · \
         gateway down · uplink cut\n"
    );
    display.clear();
    assert_eq!(written.take(), "");
}

#[test]
fn block_is_replaced_by_the_next_one_and_by_what_is_said_on_a_terminal() {
    let written = Written::default();
    let display = Display::on(Box::new(written.clone()), true);
    display.draw(&scene());
    let first = written.take();
    assert!(!first.contains("\x1b[F"), "{first}");
    let lines = first.matches('\n').count();
    let up = "\x1b[F".repeat(lines) + "\x1b[J";
    display.draw(&scene());
    let second = written.take();
    assert_eq!(second.strip_prefix(&up), Some(first.as_str()));
    display.say("stays");
    assert_eq!(written.take(), format!("{up}stays\n"));
    display.say("too");
    assert_eq!(written.take(), "too\n");
}

#[test]
fn thousands_are_set_apart() {
    for (number, text) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (123_456, "123,456"),
        (1_234_567, "1,234,567"),
    ] {
        assert_eq!(thousands(number), text);
    }
}
