//! What is shown one by one, and under which labels.

use super::write::{Label, Shown, label_of};
use crate::{
    DomainSnapshot, DriverSnapshot, ProcessorSnapshot, PublisherSnapshot, ServiceSnapshot,
    SubscriptionSnapshot, TopicSnapshot,
};
use std::borrow::Cow;

impl Shown for &ProcessorSnapshot {
    fn id(&self) -> Option<u64> {
        Some(self.id.get())
    }

    fn labels(&self) -> Vec<Label<'_>> {
        vec![
            ("processor", Cow::Borrowed(&self.name)),
            ("driver", Cow::Borrowed(&self.driver)),
        ]
    }
}

impl Shown for &DriverSnapshot {
    fn id(&self) -> Option<u64> {
        Some(self.id.get())
    }

    fn labels(&self) -> Vec<Label<'_>> {
        vec![
            ("driver", Cow::Borrowed(&self.name)),
            ("kind", Cow::Borrowed(&self.kind)),
        ]
    }
}

impl Shown for &TopicSnapshot {
    fn id(&self) -> Option<u64> {
        None
    }

    fn labels(&self) -> Vec<Label<'_>> {
        vec![("topic", Cow::Borrowed(&self.name))]
    }
}

impl Shown for &ServiceSnapshot {
    fn id(&self) -> Option<u64> {
        None
    }

    fn labels(&self) -> Vec<Label<'_>> {
        vec![("service", Cow::Borrowed(&self.name))]
    }
}

impl Shown for &DomainSnapshot {
    fn id(&self) -> Option<u64> {
        None
    }

    fn labels(&self) -> Vec<Label<'_>> {
        vec![("domain", Cow::Borrowed(&self.name))]
    }
}

/// An end of a topic.
pub(super) struct End<'a, T> {
    pub(super) topic: &'a str,
    pub(super) of: &'a T,
}

impl Shown for End<'_, PublisherSnapshot> {
    fn id(&self) -> Option<u64> {
        None
    }

    fn labels(&self) -> Vec<Label<'_>> {
        vec![
            ("topic", Cow::Borrowed(self.topic)),
            ("publisher", Cow::Owned(self.of.id.get().to_string())),
        ]
    }
}

impl Shown for End<'_, SubscriptionSnapshot> {
    fn id(&self) -> Option<u64> {
        Some(self.of.id.get())
    }

    fn labels(&self) -> Vec<Label<'_>> {
        // Of a link it is the other process, which is no processor of this node.
        let is_own = self.of.node.is_none();
        let owner = self.of.owner.as_deref().filter(|_| is_own);
        let owner = owner.unwrap_or_default();
        vec![
            ("topic", Cow::Borrowed(self.topic)),
            ("subscription", Cow::Owned(self.of.id.get().to_string())),
            ("owner", Cow::Borrowed(owner)),
        ]
    }
}

/// A label's value for each figure of one series.
pub(super) struct By(pub(super) &'static str, pub(super) &'static str);

impl Shown for By {
    fn id(&self) -> Option<u64> {
        None
    }

    fn labels(&self) -> Vec<Label<'_>> {
        vec![(self.0, label_of(self.1))]
    }
}

impl<T> Shown for (By, T) {
    fn id(&self) -> Option<u64> {
        None
    }

    fn labels(&self) -> Vec<Label<'_>> {
        self.0.labels()
    }
}
