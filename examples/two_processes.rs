//! Two scripts in two processes: one publishes numbers, the other subscribes.
//!
//! ```text
//! cargo run --example two_processes -- publish
//! cargo run --example two_processes -- subscribe      (in another terminal)
//! ```
//!
//! Start them in any order and as many as you like; kill any and start it again: the others go on. Stop a subscriber with
//! Ctrl-Z: it holds nobody back, and with `fg` it says how many numbers it missed.

use clap::{Parser, ValueEnum};
use mproc::{EVENTS, Event, prelude::*};

const NUMBERS: Topic<u64> = Topic::new("two_processes/numbers");

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Publish,
    Subscribe,
}

#[derive(Parser)]
struct Arguments {
    role: Role,
    /// End after this many numbers that somebody got (publish), or that came (subscribe); else with Ctrl-C.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

fn main() -> mproc::Result<()> {
    let Arguments { role, count } = Arguments::parse();
    match role {
        Role::Publish => publish(count),
        Role::Subscribe => subscribe(count),
    }
}

fn publish(count: Option<u64>) -> mproc::Result<()> {
    let mut script = mproc::init()?.with(0);
    let numbers = script.publisher(&NUMBERS)?;
    let mut next = 0;
    script.every(Duration::from_millis(50), move |heard, cx| {
        let subscribers = numbers.publish(next)?.count;
        println!("{next} to {subscribers} subscribers");
        next += 1;
        if subscribers > 0 {
            *heard += 1;
        }
        if count.is_some_and(|count| *heard >= count) {
            cx.runtime().request_shutdown();
        }
        Ok::<_, mproc::Error>(())
    })?;
    script.spin()
}

fn subscribe(count: Option<u64>) -> mproc::Result<()> {
    let mut script = mproc::init()?.with(0);
    let _told = script.events()?; // events are published while this lives
    script.on(&EVENTS, |_, event: Sample<Event>, _| match &*event {
        Event::PublisherMatched { topic, publishers } if topic == NUMBERS.name() => {
            println!("a publisher came: {publishers}");
        }
        Event::PublisherUnmatched { topic, publishers } if topic == NUMBERS.name() => {
            println!("a publisher left: {publishers}");
        }
        _ => {}
    })?;
    let newest = SubscriptionOptions::new()
        .capacity(16)
        .when_full(WhenFull::DropOldest);
    script.on_with(&NUMBERS, newest, move |seen, number: Sample<u64>, cx| {
        if number.gap() > 0 {
            println!("missed {}", number.gap());
        }
        println!("{}", *number);
        *seen += 1;
        if count.is_some_and(|count| *seen >= count) {
            cx.runtime().request_shutdown();
        }
    })?;
    println!("waiting for numbers");
    script.spin()
}
