//! A script that subscribes to what a processor publishes; its callback has the state to itself.

use mproc::prelude::*;

const SQUARES: Topic<u64> = Topic::new("squares");

fn main() -> mproc::Result<()> {
    let mut script = mproc::init()?.with(0);
    script.on(&SQUARES, |sum, square: Sample<u64>, cx| {
        *sum += *square;
        println!("{} makes {sum}", *square);
        if *square == 100 {
            cx.runtime().request_shutdown();
        }
    })?;
    let squarer = closure(|n: u64, cx| cx.publish(&SQUARES, n * n).map(drop));
    let squarer = script.spawn_thread("squarer", squarer)?;
    for n in 1..=10 {
        squarer.send(n)?;
    }
    script.spin()
}
