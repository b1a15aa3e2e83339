//! Timers of a script: one that repeats, one that comes once, one that is cancelled, and one that ends the program.

use mproc::prelude::*;

fn main() -> mproc::Result<()> {
    let mut script = mproc::init()?.with(0_u32);
    script.every(Duration::from_millis(100), |ticks, _cx| {
        *ticks += 1;
        println!("tick {ticks}");
    })?;
    script.after(Duration::from_millis(250), |ticks, _cx| {
        println!("once, after {ticks} ticks");
    })?;
    let never = script.after(Duration::from_millis(300), |_, _cx| println!("never"))?;
    println!("cancelled: {}", script.cancel(never)?);
    script.after(Duration::from_millis(550), |_, cx| {
        cx.runtime().request_shutdown();
    })?;
    script.spin()
}
