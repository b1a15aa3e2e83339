//! With the feature `spans` and a filter that switches them off, handlers leave no trace.
#![cfg(feature = "spans")]

use mproc::prelude::*;
use mproc::{Closure, Options};
use std::sync::{Arc, Mutex};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber, info_span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// What was told, as a line each.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.add(format!("new {}", attributes.metadata().name()));
    }
    fn on_follows_from(&self, _: &Id, _: &Id, _: Context<'_, S>) {
        self.add("follows".to_owned());
    }
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = context.event_span(event).map(|span| span.name());
        self.add(format!("event in {span:?}"));
    }
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let name = context.span(&id).map(|span| span.name());
        self.add(format!("closed {name:?}"));
    }
}

/// One process, one subscriber: this is the only test of its file.
#[test]
fn nothing_is_made_kept_open_or_followed() {
    let lines = Lines::default();
    tracing_subscriber::registry()
        .with(EnvFilter::new("trace,mproc_spans=off,mproc_runtime=off"))
        .with(lines.clone())
        .init();
    let node = Node::simulated_with(1, Options::default());
    let sink = closure(|_: u8, cx| {
        tracing::info!("inside");
        cx.spawn(async { tracing::info!("spawned") });
    });
    let sink: Address<Closure<u8, ()>> = node.spawn_thread("sink", sink).unwrap();
    info_span!("sender").in_scope(|| sink.send(1).unwrap());
    lines.add("sent".to_owned());
    node.settle();
    let lines = lines.0.lock().unwrap();
    let expected = [
        "new sender",
        "closed Some(\"sender\")",
        "sent",
        "event in None",
        "event in None",
    ];
    assert_eq!(*lines, expected);
}
