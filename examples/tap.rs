//! Records what programs publish, whatever its type: a line of JSON for each sample.
//!
//! ```text
//! cargo run --example tap                                # three topics of its own
//! MPROC_DOMAIN=lab cargo run --example tap -- '**' 100   # 100 samples of whoever is in the domain "lab"
//! ```

use mproc::{CodecKind, Raw, Schema, prelude::*};
use serde_json::{Value, json};

const POINT: Topic<[f32; 2]> = Topic::plain("tap/point").with_schema("[f32; 2]");
const SCAN: Topic<[u16]> = Topic::slices("tap/scan");
const WORDS: Topic<Vec<String>> = Topic::new("tap/words");

/// A value of any type: MessagePack says what it holds, and plain data has a schema.
fn value(raw: &Raw) -> Result<Value, Box<dyn std::error::Error>> {
    let bytes = raw.encoded()?;
    Ok(match (raw.info().codec, Schema::of(raw.info())) {
        (CodecKind::Plain, Some(schema)) => serde_json::to_value(schema.value(bytes)?)?,
        (CodecKind::Slices, Some(schema)) => serde_json::to_value(schema.values(bytes)?)?,
        (CodecKind::Serde, _) => rmp_serde::from_slice(bytes)?,
        _ => json!(format!("{} bytes of {}", bytes.len(), raw.info())),
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pattern = arguments.next();
    let count = arguments.next().map_or(Ok(3), |count| count.parse())?;
    let node = Node::new()?;
    // Nobody waits for this program: when it is too slow, it says what it has missed.
    let options = SubscriptionOptions::new().when_full(WhenFull::DropOldest);
    let tap = node.tap(
        pattern.as_deref().unwrap_or("tap/*"),
        options.capacity(1024),
    )?;
    if pattern.is_none() {
        node.publisher(&POINT)?.publish([0.5, -2.0])?;
        node.publisher(&WORDS)?
            .publish(vec!["to".into(), "go".into()])?;
        let mut scan = node.publisher(&SCAN)?.loan(3)?;
        scan.copy_from_slice(&[7, 8, 9]);
        scan.publish()?;
    }
    for sample in tap.iter().take(count) {
        let value = value(&sample).unwrap_or_else(|error| json!(error.to_string()));
        let (topic, sequence, missed) = (sample.topic(), sample.sequence(), sample.gap());
        let line =
            json!({ "topic": topic, "sequence": sequence, "missed": missed, "value": value });
        println!("{line}");
    }
    Ok(())
}
