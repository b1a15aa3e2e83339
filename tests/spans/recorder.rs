//! A layer that keeps what is told of spans: handlers run on threads of their own, so there is one for the process.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// What is known of a span. Others are named by their place in the recorder's list, since ids are used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) index: usize,
    pub(crate) name: &'static str,
    pub(crate) processor: String,
    pub(crate) message_type: String,
    pub(crate) parent: Option<usize>,
    pub(crate) follows: Vec<usize>,
    pub(crate) entered: usize,
    pub(crate) exited: usize,
    pub(crate) closed: bool,
}

#[derive(Debug, Default)]
struct State {
    spans: Vec<Recorded>,
    open: HashMap<u64, usize>,
    /// Messages of events, and the span that each was told in.
    events: Vec<(String, Option<usize>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<State>>);

impl Recorder {
    fn change(&self, id: &Id, change: impl FnOnce(&mut Recorded)) {
        let mut state = self.0.lock().unwrap();
        if let Some(&index) = state.open.get(&id.into_u64()) {
            change(&mut state.spans[index]);
        }
    }

    /// All spans so far, the program's own included.
    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.0.lock().unwrap().spans.clone()
    }

    /// The spans of handlers of this processor, in the order in which they were made.
    pub(crate) fn of(&self, processor: &str) -> Vec<Recorded> {
        let all = self.all().into_iter();
        all.filter(|span| span.name == "handle" && span.processor == processor)
            .collect()
    }

    /// Those of them for such messages.
    pub(crate) fn of_type(&self, processor: &str, message_type: &str) -> Vec<Recorded> {
        let all = self.of(processor).into_iter();
        all.filter(|span| span.message_type == message_type)
            .collect()
    }

    /// The only span of this processor for such a message.
    pub(crate) fn one(&self, processor: &str, message_type: &str) -> Recorded {
        let mut found = self.of_type(processor, message_type);
        assert_eq!(found.len(), 1, "{:?}", self.of(processor));
        found.remove(0)
    }

    /// The only span of this name, which the test has made itself.
    pub(crate) fn own(&self, name: &str) -> Recorded {
        let mut found = self.all();
        found.retain(|span| span.name == name);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// In which span an event with this message was told; `None` in no span.
    pub(crate) fn span_of_event(&self, message: &str) -> Option<Recorded> {
        let state = self.0.lock().unwrap();
        let found = state.events.iter().find(|(text, _)| text == message);
        let (_, index) = found.unwrap_or_else(|| panic!("no event {message:?}"));
        index.map(|index| state.spans[index].clone())
    }
}

#[derive(Default)]
struct Fields {
    processor: String,
    message_type: String,
    message: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            "processor" => self.processor = text,
            "message_type" => self.message_type = text,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "processor" => self.processor = value.to_owned(),
            "message_type" => self.message_type = value.to_owned(),
            _ => {}
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = context.span(id).and_then(|span| span.parent());
        let parent = parent.map(|parent| parent.id().into_u64());
        let mut state = self.0.lock().unwrap();
        let index = state.spans.len();
        let parent = parent.and_then(|id| state.open.get(&id).copied());
        state.spans.push(Recorded {
            index,
            name: attributes.metadata().name(),
            processor: fields.processor,
            message_type: fields.message_type,
            parent,
            ..Recorded::default()
        });
        state.open.insert(id.into_u64(), index);
    }

    fn on_follows_from(&self, span: &Id, follows: &Id, context: Context<'_, S>) {
        // As layers that export spans do: they look at the other span.
        assert!(
            context.span(follows).is_some(),
            "it follows from a closed span"
        );
        let other = self
            .0
            .lock()
            .unwrap()
            .open
            .get(&follows.into_u64())
            .copied();
        self.change(span, |span| span.follows.extend(other));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event).map(|span| span.id().into_u64());
        let mut state = self.0.lock().unwrap();
        let span = span.and_then(|id| state.open.get(&id).copied());
        state.events.push((fields.message, span));
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.entered += 1);
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.exited += 1);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |span| span.closed = true);
        self.0.lock().unwrap().open.remove(&id.into_u64());
    }
}
