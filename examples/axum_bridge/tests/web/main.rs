//! The web service, used by a real client, by a real browser, and as a whole program.

mod browser;
mod ends;
mod http;
mod support;
