//! A script that publishes on a timer, and a processor that listens.

use mproc::prelude::*;

const COUNT: Topic<u32> = Topic::new("count");

fn main() -> mproc::Result<()> {
    let mut script = mproc::init()?.with(0);
    let listener = script.subscribe(&COUNT, |n| println!("heard {}", *n))?;
    script.every(Duration::from_millis(50), |n, cx| {
        *n += 1;
        cx.publish(&COUNT, *n)?;
        if *n == 10 {
            cx.runtime().request_shutdown();
        }
        Ok::<_, mproc::Error>(())
    })?;
    script.spin()?;
    drop(listener);
    Ok(())
}
