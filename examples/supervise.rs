//! A sensor that crashes is brought up again, later each time; the display beside it goes on. When it has crashed too often,
//! its supervisor gives up, and says so.

use mproc::{Backoff, SupervisorEvent, prelude::*};

/// Loses its device at every third reading.
struct Sensor {
    readings: u32,
}
struct Read;

impl Processor for Sensor {}
impl Handle<Read> for Sensor {
    type Reply = u32;
    fn handle(&mut self, _: Read, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.readings += 1;
        assert!(self.readings < 3, "the device is gone");
        Ok(self.readings)
    }
}

/// Counts what it has shown, over all crashes of the sensor.
#[derive(Default)]
struct Display {
    shown: u32,
}
struct Show(u32);

impl Processor for Display {}
impl Handle<Show> for Display {
    type Reply = ();
    fn handle(&mut self, Show(value): Show, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.shown += 1;
        println!("display: reading {value}, the {}. in all", self.shown);
        Ok(())
    }
}

fn main() -> mproc::Result<()> {
    let node = Node::new()?;
    let plant = node
        .supervisor("plant")
        .restarts(3, Duration::from_secs(60))
        .backoff(Backoff::exponential(
            Duration::from_millis(20),
            Duration::from_secs(1),
        ))
        .child(Child::new("display", Display::default))
        // A device may be missing: then the factory fails, which counts as a crash.
        .child(Child::new("sensor", || {
            Ok::<_, std::io::Error>(Sensor { readings: 0 })
        }));
    let events = plant.events(64);
    let plant = plant.start()?;
    let display = plant.address::<Display>("display")?;
    let sensor = plant.address::<Sensor>("sensor")?;
    loop {
        // While the sensor is down, this waits in its mailbox for the next one.
        match sensor.call(Read).wait() {
            Ok(value) => display.call(Show(value)).wait()?,
            Err(error) => println!("sensor:  {error}"),
        }
        if sensor.is_closed() {
            break;
        }
    }
    let down = plant.ended().wait()?;
    println!("plant:   {}", down.exit);
    for event in events.try_iter() {
        if let SupervisorEvent::Fell { child, delay, .. } = event {
            println!("{child} was brought up again after {delay:?}");
        }
    }
    Ok(())
}
