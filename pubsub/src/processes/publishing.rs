//! The control's part for what this node publishes: links are given, and end.

use super::control::{Control, Nonsense};
use super::core::is_out_of_descriptors;
use super::line::Descriptor;
use super::out_link::LinkOut;
use super::outlet::{NewLink, Outlet};
use super::peer::Outgoing;
use super::wire::{self, Refused};
use crate::transport::{self, OutLink};
use mproc_shm::{
    Accept, Attach, AttachError, DetachReason, Frame, Refuse, RefuseReason, Retire, SegmentError,
};
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl Control {
    /// A peer's subscription wants a link.
    pub(super) fn attach(
        &mut self,
        connection: u64,
        attach: &Attach<'_>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Nonsense> {
        let Ok([bells]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return Err("a request for a link comes with one descriptor".into());
        };
        if let Err((reason, publisher, subscriber)) = self.give(connection, attach, &bells)
            && let Some(peer) = self.peers.get(&connection)
        {
            let frame = Frame::Refuse(Refuse {
                request: attach.request,
                reason,
                publisher: &publisher,
                subscriber: &subscriber,
            });
            let _ = peer.line.send(&frame, &[]);
        }
        Ok(())
    }

    fn give(
        &mut self,
        connection: u64,
        attach: &Attach<'_>,
        bells: &OwnedFd,
    ) -> Result<(), Refused> {
        let topic = attach.topic.id;
        let offer = self.offers.get_mut(&topic).filter(|offer| offer.is_active);
        let (Some(offer), Some(peer)) = (offer, self.peers.get_mut(&connection)) else {
            let nothing = "no publisher".to_owned();
            let topic = format!("topic {:?}", attach.topic.name);
            return Err((RefuseReason::NO_TOPIC, nothing, topic));
        };
        let offered = Arc::clone(&offer.offered);
        wire::judge(offered.key(), attach)?;
        let (policy, is_tap) = wire::without_tap(attach.when_full);
        let (policy, when_full) = wire::policy_of(policy).expect("it was judged");
        let refuse = |error: SegmentError| {
            let reason = if is_out_of_descriptors(&error) {
                RefuseReason::DESCRIPTORS
            } else {
                RefuseReason::MEMORY
            };
            let wish = format!("a link with {} places", attach.depth);
            (reason, error.to_string(), wish)
        };
        let ringer = peer
            .bells(bells)
            .and_then(|bells| bells.ringer(attach.bell));
        let ringer = ringer.map_err(refuse)?;
        let core = Arc::clone(&self.core);
        let outlet = offer
            .outlet
            .get_or_insert_with(|| Outlet::new(&core, offered.key()));
        let outlet = Arc::clone(outlet);
        let number = peer.next_link;
        // After 2^31 links of one connection the numbers begin anew; those are gone.
        peer.next_link = number.wrapping_add(2) & (u32::MAX >> 1);
        // There are no more samples than slots, so more leases cannot be held.
        let leases_max = attach.leases_max.min(core.options.slots_max);
        let new = NewLink {
            number,
            depth: attach.depth,
            leases_max,
            when_full: policy,
            ringer: ringer.clone(),
        };
        let line = Arc::clone(&peer.line);
        let accept = |fd: OwnedFd, slots: u32| {
            let frame = Frame::Accept(Accept {
                request: attach.request,
                link: number,
                slots,
                depth: attach.depth,
                leases_max,
                bell: core.bells.common().index(),
                history: 0,
                publisher: 0,
            });
            let page: Descriptor = Arc::clone(core.bells.page()) as Descriptor;
            let link: Descriptor = Arc::new(fd);
            let sent = line.send(&frame, &[link, page]);
            debug_assert!(sent.is_ok(), "a frame without names can be encoded");
        };
        let attached = outlet.attach(&line, new, |fd, geometry| accept(fd, geometry.slots));
        let id = attached.map_err(|error| match error {
            AttachError::Segment(error) => refuse(error),
            error => {
                let wish = "one more link".to_owned();
                (RefuseReason::MEMORY, error.to_string(), wish)
            }
        });
        let id = match id {
            Ok(id) => id,
            Err(refused) => {
                self.tidy(topic);
                return Err(refused);
            }
        };
        let link: Arc<dyn OutLink> = Arc::new(LinkOut {
            shared: Arc::clone(&outlet) as Arc<dyn transport::Outlet>,
            outlet: Arc::clone(&outlet),
            id,
            connection,
            number,
            capacity: attach.depth as usize,
            when_full,
            is_tap,
            remote: peer.remote.clone(),
            ringer,
        });
        let outgoing = Outgoing {
            outlet,
            id,
            topic,
            offered: Arc::clone(&offered),
            joined: None,
        };
        peer.outgoing.insert(number, outgoing);
        match offered.join(link) {
            Ok(subscription) => {
                if let Some(peer) = self.peers.get_mut(&connection)
                    && let Some(link) = peer.outgoing.get_mut(&number)
                {
                    link.joined = Some(subscription);
                }
            }
            Err(error) => {
                if let Some(peer) = self.peers.get(&connection) {
                    let text = error.to_string();
                    peer.detach(number, DetachReason::PUBLISHER_ENDED, &text);
                }
                self.end_outgoing(connection, number);
            }
        }
        Ok(())
    }

    /// The layer above has closed its end: the subscriber takes what is queued, and leaves then.
    pub(super) fn close_link(&mut self, connection: u64, number: u32) {
        let Some(peer) = self.peers.get(&connection) else {
            return;
        };
        // It leaves the layer above when its subscriber has left: until then that may have closed it, and keep it.
        if peer.outgoing.contains_key(&number) && peer.is_open {
            peer.detach(number, DetachReason::PUBLISHER_ENDED, "");
        }
    }

    /// A peer's subscription has let go of memory.
    pub(super) fn retired(&mut self, connection: u64, retired: Retire) -> Result<(), Nonsense> {
        let Some(peer) = self.peers.get(&connection) else {
            return Ok(());
        };
        let Retire { link, first_slot } = retired;
        if !peer.is_own(link) {
            return Err(format!("link {link} is its own"));
        }
        // Else the link has ended meanwhile.
        if let Some(outgoing) = peer.outgoing.get(&link)
            && !outgoing.outlet.retired(outgoing.id, first_slot)
        {
            return Err(format!(
                "link {link} was not asked for the segment that begins with slot {first_slot}"
            ));
        }
        Ok(())
    }

    /// A link to a subscription of the peer is over.
    pub(super) fn end_outgoing(&mut self, connection: u64, number: u32) {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return;
        };
        let Some(link) = peer.outgoing.remove(&number) else {
            return;
        };
        let Outgoing {
            outlet,
            id,
            topic,
            offered,
            joined,
        } = link;
        outlet.detach(id);
        if let Some(subscription) = joined {
            offered.leave(subscription);
        }
        // Links that were held before and have come back meanwhile are forgotten, too.
        if let Some(peer) = self.peers.get_mut(&connection) {
            peer.held.push((outlet, id));
            peer.held.retain(|(outlet, id)| outlet.holds(*id));
        }
        self.tidy(topic);
    }
}
