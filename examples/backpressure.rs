//! A fast publisher and two slow readers: one holds the publisher back and misses nothing, one drops the oldest and is told
//! how many it missed.

use mproc::prelude::*;

const NUMBERS: Topic<u32> = Topic::new("numbers");

fn main() -> mproc::Result<()> {
    let node = Node::new()?;
    let careful = SubscriptionOptions::new().capacity(2);
    let careful = node.subscription_with(&NUMBERS, careful)?;
    let newest = SubscriptionOptions::new()
        .capacity(2)
        .when_full(WhenFull::DropOldest);
    let newest = node.subscription_with(&NUMBERS, newest)?;
    let numbers = node.publisher(&NUMBERS)?;

    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while let Ok(n) = careful.recv_timeout(Duration::from_millis(200)) {
            std::thread::sleep(Duration::from_millis(5));
            seen.push(*n);
        }
        seen
    });
    for n in 0..20 {
        numbers.publish(n)?; // waits while `careful` has no room
    }
    println!(
        "careful saw {:?}",
        reader.join().expect("the reader does not panic")
    );
    for n in newest.try_iter() {
        println!("newest saw {} after missing {}", *n, n.gap());
    }
    println!("newest: {:?}", newest.snapshot());
    Ok(())
}
