//! What the web service is in front of. Nothing of the web here.

use mproc::Fault;
use mproc::prelude::*;

/// Each new total.
pub const TOTALS: Topic<i64> = Topic::new("counter/total");

/// The service that squares.
pub const SQUARE: &str = "square";

/// Keeps a total.
#[derive(Debug, Default)]
pub struct Counter {
    total: i64,
}

/// Adds to the total. The reply is the new one; a fault if it would be too large, and then nothing has changed.
#[derive(Debug)]
pub struct Add(pub i64);

/// Asks for the total.
#[derive(Debug)]
pub struct Total;

impl Processor for Counter {}

impl Handle<Add> for Counter {
    type Reply = i64;

    fn handle(&mut self, Add(n): Add, cx: &mut Cx<'_, Self, i64>) -> Outcome<i64> {
        let total = self.total.checked_add(n);
        self.total = total.ok_or_else(|| Fault::new("the total would be too large"))?;
        cx.publish(&TOTALS, self.total)?;
        Ok(self.total)
    }
}

impl Handle<Total> for Counter {
    type Reply = i64;

    fn handle(&mut self, _: Total, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> {
        Ok(self.total)
    }
}

/// What [`SQUARE`] does.
///
/// # Errors
///
/// A fault if the square is too large.
pub fn square(n: i64) -> Outcome<i64> {
    let square = n.checked_mul(n);
    square.ok_or_else(|| Fault::new("the square is too large"))
}
