//! Keys that are pressed while it plays.
//!
//! The terminal gives each key at once, and echoes none, for as long as [`Keys`] lives: also if the thread unwinds.

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

/// What a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Pause,
    Step,
    Faster,
    Slower,
    End,
}

/// What people are told of the keys.
pub(crate) const HELP: &str = "space: pause, s: step, +/-: rate, q: end";

/// How soon the thread that reads keys sees that it is to end.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Pressed {
    keys: Mutex<(VecDeque<Key>, Option<Waker>)>,
    is_over: AtomicBool,
}

/// The keyboard.
pub(crate) struct Keys {
    pressed: Arc<Pressed>,
    reads: Option<JoinHandle<()>>,
}

impl Keys {
    /// Listens to the keyboard from now on. Standard input must be a terminal.
    pub(crate) fn listen() -> io::Result<Self> {
        enable_raw_mode()?;
        let pressed = Arc::<Pressed>::default();
        let mut keys = Self {
            pressed: pressed.clone(),
            reads: None,
        };
        let reads = std::thread::Builder::new().name("keys".to_owned());
        keys.reads = Some(reads.spawn(move || pressed.read())?);
        Ok(keys)
    }

    /// The next key. If there is none, `waker` is woken when there is one.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Key> {
        let mut keys = self.pressed.lock();
        let key = keys.0.pop_front();
        if key.is_none() {
            keys.1 = Some(waker.clone());
        }
        key
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `read`, though nothing else depends on it.
        self.pressed.is_over.store(true, Ordering::Release);
        if let Some(reads) = self.reads.take() {
            reads.join().ok();
        }
        disable_raw_mode().ok();
    }
}

impl Pressed {
    fn lock(&self) -> std::sync::MutexGuard<'_, (VecDeque<Key>, Option<Waker>)> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) {
        while !self.is_over.load(Ordering::Acquire) {
            let event = match event::poll(LOOK) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let key = match event {
                Ok(event) => meaning(&event),
                // The terminal is gone; signals still end it.
                Err(_) => return,
            };
            if let Some(key) = key {
                let waker = {
                    let mut keys = self.lock();
                    keys.0.push_back(key);
                    keys.1.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

fn meaning(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else {
        return None;
    };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        // The terminal makes no signal of it.
        KeyCode::Char('c' | 'd') if control => Some(Key::End),
        KeyCode::Char(' ' | 'p') => Some(Key::Pause),
        KeyCode::Char('s' | '.') | KeyCode::Right => Some(Key::Step),
        KeyCode::Char('+' | '=') | KeyCode::Up => Some(Key::Faster),
        KeyCode::Char('-') | KeyCode::Down => Some(Key::Slower),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::End),
        _ => None,
    }
}
