//! Meeting subscribers that nobody tells of: taps (`echo`, `record`) belong to no topic of their node, so no report names them. They
//! are met moments after a publisher is made.

use mproc::{Error, ErrorKind, RawPublisher};
use std::time::Duration;

/// Nobody came for so long: all are there.
const QUIET: Duration = Duration::from_millis(50);

/// How often to wait for one more.
const ROUNDS: usize = 20;

/// Waits until no further subscription joins these publishers, a second at most.
pub(crate) fn settle(publishers: &[&RawPublisher]) -> Result<(), Error> {
    let count = || -> usize { publishers.iter().map(|p| p.subscriber_count()).sum() };
    let Some(first) = publishers.first() else {
        return Ok(());
    };
    for _ in 0..ROUNDS {
        let before = count();
        match first.wait_for_subscribers(first.subscriber_count() + 1, QUIET) {
            Err(error) if error.kind() == ErrorKind::Timeout && count() == before => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            met => met?,
        }
    }
    Ok(())
}
