//! An asynchronous program, on tokio, that publishes as fast as its subscriber takes.
//!
//! ```text
//! cargo run --example async_publisher
//! cargo run --example async_subscriber      (in another terminal)
//! ```
//!
//! Start them in any order. Waiting for room is awaited, so other tasks of the program run meanwhile: here one that
//! counts ticks.

use mproc::prelude::*;
use std::cell::Cell;

const NUMBERS: Topic<u64> = Topic::new("async/numbers");

/// How many are published.
const COUNT: u64 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> mproc::Result<()> {
    let node = Node::builder().domain("async-examples")?.build()?;
    let numbers = node.publisher(&NUMBERS)?;
    let ticks = Cell::new(0_u64);
    let ticking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ticks.set(ticks.get() + 1);
        }
    };
    tokio::select! {
        published = publish(&node, &numbers) => published?,
        () = ticking => {}
    }
    println!("done; ticked meanwhile: {}", ticks.get() > 0);
    Ok(())
}

async fn publish(node: &Node, numbers: &Publisher<u64>) -> mproc::Result<()> {
    let events = node.events()?;
    println!("waiting for a subscriber");
    while numbers.subscriber_count() == 0 {
        // Something has changed: a subscriber, perhaps.
        events.recv().limit(Duration::MAX).await?;
    }
    for n in 1..COUNT {
        numbers.publish_async(n).await?;
        println!("published {n}");
    }
    // The last is followed until the subscriber has let go of it.
    let released = numbers.publish_tracked(COUNT)?.await?;
    println!(
        "{COUNT} is back from {} subscriber",
        released.delivered.count
    );
    Ok(())
}
