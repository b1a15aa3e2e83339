//! What wakes the receivers of this node: a bell for each driver, and one for the thread that stands in for all others.
//!
//! The page has 15 bells. Bell 0 is the bell thread's: it looks at subscriptions that no driver looks at (pulled ones, channels,
//! and those of drivers that came when the other 14 bells were given), and at publishers who wait for something to come back.
//! The others go to drivers, one each, when their first subscription comes, and return when the driver is gone.

use super::outlet::Outlet;
use crate::id::SubscriptionId;
use crate::transport::Sought;
use mproc_runtime::{DriverId, LaneBell, Outside};
use mproc_shm::{BELLS_PER_PAGE, Bell, BellPage, Origin, SegmentError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Weak};
use std::time::Instant;

type Seekers = Arc<[Arc<dyn Sought>]>;

/// Whoever sleeps on one bell, and the subscriptions that it looks at.
pub(super) struct Home {
    index: u32,
    bell: Arc<Bell>,
    /// Replaced, never changed: a look takes the list with one short lock, and asks without it.
    seekers: Mutex<Seekers>,
    /// False while there are none, which is what most turns of a driver see.
    has_seekers: AtomicBool,
}

impl Home {
    fn new(index: u32, bell: &Arc<Bell>) -> Self {
        Self {
            index,
            bell: Arc::clone(bell),
            seekers: Mutex::new(Arc::new([])),
            has_seekers: AtomicBool::new(false),
        }
    }

    /// Its bell's place on the page.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Wakes it, so that it looks; whatever peers have written to its bell.
    pub(super) fn ring(&self) {
        self.bell.ring_own();
    }

    pub(super) fn add(&self, sought: Arc<dyn Sought>) {
        self.change(|list| list.push(sought));
    }

    pub(super) fn remove(&self, id: SubscriptionId) {
        self.change(|list| list.retain(|sought| sought.id() != id));
    }

    pub(super) fn clear(&self) {
        self.change(Vec::clear);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<dyn Sought>>)) {
        let mut seekers = self.seekers.lock();
        let mut list = seekers.to_vec();
        // What is taken out of the list lives on in the old one, which goes after the lock.
        change(&mut list);
        self.has_seekers.store(!list.is_empty(), Release);
        let old = std::mem::replace(&mut *seekers, list.into());
        drop(seekers);
        drop(old);
    }

    /// Lets each subscription look at its links. True if there was news.
    fn look(&self) -> bool {
        if !self.has_seekers.load(Acquire) {
            return false;
        }
        let seekers = self.seekers.lock().clone();
        let mut found = false;
        for sought in &*seekers {
            found |= sought.look();
        }
        found
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Home({})", self.index)
    }
}

/// A driver's bell.
struct DriverBell {
    home: Arc<Home>,
    bell: Arc<Bell>,
    origin: Origin,
    free: Arc<Mutex<Vec<u32>>>,
}

impl Outside for DriverBell {
    fn look(&self) -> bool {
        self.origin.is_here() && self.home.look()
    }

    fn sleep(&self, until: Option<Instant>, stay_awake: &mut dyn FnMut() -> bool) {
        let drowsy = self.bell.about_to_sleep_shared();
        if !stay_awake() {
            drowsy.wait_until(until);
        }
    }

    fn ring(&self) {
        self.home.ring();
    }
}

/// Another driver may have it.
impl Drop for DriverBell {
    fn drop(&mut self) {
        if self.origin.is_here() {
            self.free.lock().push(self.home.index);
        }
    }
}

/// All bells of a node.
pub(super) struct Bells {
    page: Arc<BellPage>,
    origin: Origin,
    /// The bell thread's.
    common: Arc<Home>,
    free: Arc<Mutex<Vec<u32>>>,
    drivers: Mutex<HashMap<DriverId, Weak<DriverBell>>>,
    outlets: Mutex<Arc<[Weak<Outlet>]>>,
    is_closing: AtomicBool,
}

impl Bells {
    /// The bells, and the one for [`run`](Self::run).
    pub(super) fn new(node: [u8; 16], origin: Origin) -> Result<(Self, Arc<Bell>), SegmentError> {
        let page = BellPage::create(node)?;
        let bell = Arc::new(page.bell(0));
        let bells = Self {
            common: Arc::new(Home::new(0, &bell)),
            page: Arc::new(page),
            origin,
            free: Arc::new(Mutex::new((1..BELLS_PER_PAGE as u32).rev().collect())),
            drivers: Mutex::default(),
            outlets: Mutex::new(Arc::new([])),
            is_closing: AtomicBool::new(false),
        };
        Ok((bells, bell))
    }

    /// To be sent to peers.
    pub(super) fn page(&self) -> &Arc<BellPage> {
        &self.page
    }

    /// The bell thread's.
    pub(super) fn common(&self) -> &Arc<Home> {
        &self.common
    }

    /// Who looks at a subscription. For a processor's it is called on its driver's thread.
    pub(super) fn home(&self, lane: Option<&LaneBell>) -> Arc<Home> {
        let driver = lane.and_then(|lane| self.driver(lane));
        driver.unwrap_or_else(|| Arc::clone(&self.common))
    }

    fn driver(&self, lane: &LaneBell) -> Option<Arc<Home>> {
        let outside = lane.outside(|| {
            let bell = self.new_driver()?;
            self.drivers
                .lock()
                .insert(lane.driver(), Arc::downgrade(&bell));
            Some(bell)
        })?;
        let known = self
            .drivers
            .lock()
            .get(&lane.driver())
            .and_then(Weak::upgrade)?;
        // A driver that something else reaches from outside has no place for us.
        let is_ours = std::ptr::addr_eq(Arc::as_ptr(&outside), Arc::as_ptr(&known));
        is_ours.then(|| Arc::clone(&known.home))
    }

    fn new_driver(&self) -> Option<Arc<DriverBell>> {
        let index = self.free.lock().pop()?;
        let bell = Arc::new(self.page.bell(index as usize));
        Some(Arc::new(DriverBell {
            home: Arc::new(Home::new(index, &bell)),
            bell,
            origin: self.origin,
            free: Arc::clone(&self.free),
        }))
    }

    /// The bell thread looks at this one, too.
    pub(super) fn add_outlet(&self, outlet: &Arc<Outlet>) {
        let mut outlets = self.outlets.lock();
        let living = outlets.iter().filter(|outlet| outlet.strong_count() > 0);
        let added = living.cloned().chain([Arc::downgrade(outlet)]);
        *outlets = added.collect();
    }

    /// What the bell thread does until [`close`](Self::close). It polls nothing: whoever changes something that it looks at
    /// rings.
    pub(super) fn run(&self, bell: &Bell) {
        let is_closing = || self.is_closing.load(Acquire);
        while !is_closing() {
            if self.look() {
                continue;
            }
            let drowsy = bell.about_to_sleep_shared();
            if !is_closing() && !self.look() {
                drowsy.wait_until(None);
            }
        }
    }

    fn look(&self) -> bool {
        let mut found = self.common.look();
        let outlets = self.outlets.lock().clone();
        for outlet in outlets.iter().filter_map(Weak::upgrade) {
            found |= outlet.look();
        }
        found
    }

    /// Ends the bell thread, and lets go of all subscriptions.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Release);
        self.common.ring();
        self.common.clear();
        *self.outlets.lock() = Arc::new([]);
        let drivers: Vec<_> = self.drivers.lock().drain().collect();
        for (_, driver) in drivers {
            if let Some(driver) = driver.upgrade() {
                driver.home.clear();
            }
        }
    }
}

impl fmt::Debug for Bells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bells")
    }
}
