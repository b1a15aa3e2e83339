//! `examples/async_handler` shows what it says.

#[path = "support/examples.rs"]
mod examples;

use examples::example;
use std::process::Command;

#[test]
fn orders_are_served_in_order_while_guests_come_in() {
    let output = Command::new(example("async_handler")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let of = |who: &str| -> Vec<_> { shown.lines().filter(|line| line.starts_with(who)).collect() };
    assert_eq!(
        of("waiter:"),
        [
            "waiter: takes the order of table 1",
            "waiter: serves table 1, number 1",
            "waiter: takes the order of table 2",
            "waiter: serves table 2, number 2",
            "waiter: takes the order of table 3",
            "waiter: serves table 3, number 3",
        ],
        "{shown}"
    );
    assert_eq!(of("table:"), ["table:  hot soup and hot bread"; 3]);
    assert_eq!(of("door:")[3..], ["door:   3 guests"], "{shown}");
}
