//! An asynchronous program, on tokio, that awaits what `async_publisher` publishes, and takes its time with each number: the
//! publisher waits for it.
//!
//! ```text
//! cargo run --example async_subscriber
//! cargo run --example async_publisher      (in another terminal)
//! ```

use mproc::prelude::*;

const NUMBERS: Topic<u64> = Topic::new("async/numbers");

/// The last number that comes.
const LAST: u64 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> mproc::Result<()> {
    let node = Node::builder().domain("async-examples")?.build()?;
    let few = SubscriptionOptions::new().capacity(2);
    let numbers = node.subscription_with(&NUMBERS, few)?;
    println!("waiting for numbers");
    let mut sum = 0;
    loop {
        let number = numbers.recv().limit(Duration::MAX).await?;
        // Its lease lasts until the end of this turn.
        tokio::time::sleep(Duration::from_millis(5)).await;
        sum += *number;
        println!("{} makes {sum}", *number);
        if *number == LAST {
            return Ok(());
        }
    }
}
