//! What two nodes tell each other about services, byte by byte.
//!
//! A frame is the bytes of one sample on the link `mproc/calls`. The first byte is its kind. Numbers are little-endian. A text
//! is its length (4 bytes) and its UTF-8. A body is all that is left: the MessagePack of a request or a reply.
//!
//! | kind | who sends it | then |
//! |---|---|---|
//! | 1 Serve | server | `server` 8, `shared` 1, name, the request's type (text, hash 8), the reply's (text, hash 8) |
//! | 2 Unserve | server | `server` 8 |
//! | 3 Request | client | `call` 8, `server` 8, body |
//! | 4 Taken | server | `server` 8, `count` 8: so many of its requests, of all that ever came on this link, wait in no line any more |
//! | 5 Cancel | client | `call` 8 |
//! | 6 Reply | server | `call` 8, body |
//! | 7 Failure | server | `call` 8, number 1, text |
//!
//! A server's number is its node's, and a call's is the calling node's; neither is used twice. A Serve is stamped with the time
//! at which the server was made. Kinds that are not known are of a later version and are passed over; anything else that does
//! not fit is nonsense, and ends the exchange.

/// What one frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Serve {
        server: u64,
        shared: bool,
        name: &'a str,
        request: (&'a str, u64),
        reply: (&'a str, u64),
    },
    Unserve {
        server: u64,
    },
    Request {
        call: u64,
        server: u64,
        body: &'a [u8],
    },
    Taken {
        server: u64,
        count: u64,
    },
    Cancel {
        call: u64,
    },
    Reply {
        call: u64,
        body: &'a [u8],
    },
    Failure {
        call: u64,
        number: u8,
        text: &'a str,
    },
}

impl<'a> Frame<'a> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number = |bytes: &mut Vec<u8>, n: u64| bytes.extend(n.to_le_bytes());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            // A name has at most 255 bytes and a type's name is text of the program: 4 bytes are enough, and the reader says
            // so if they are not.
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        match self {
            Self::Serve {
                server,
                shared,
                name,
                request,
                reply,
            } => {
                bytes.push(1);
                number(&mut bytes, *server);
                bytes.push(u8::from(*shared));
                text(&mut bytes, name);
                for (name, hash) in [request, reply] {
                    text(&mut bytes, name);
                    number(&mut bytes, *hash);
                }
            }
            Self::Unserve { server } => {
                bytes.push(2);
                number(&mut bytes, *server);
            }
            Self::Request { call, server, body } => {
                bytes.reserve(17 + body.len());
                bytes.push(3);
                number(&mut bytes, *call);
                number(&mut bytes, *server);
                bytes.extend(*body);
            }
            Self::Taken { server, count } => {
                bytes.push(4);
                number(&mut bytes, *server);
                number(&mut bytes, *count);
            }
            Self::Cancel { call } => {
                bytes.push(5);
                number(&mut bytes, *call);
            }
            Self::Reply { call, body } => {
                bytes.reserve(9 + body.len());
                bytes.push(6);
                number(&mut bytes, *call);
                bytes.extend(*body);
            }
            Self::Failure {
                call,
                number: which,
                text: what,
            } => {
                bytes.push(7);
                number(&mut bytes, *call);
                bytes.push(*which);
                text(&mut bytes, what);
            }
        }
        bytes
    }

    /// `Ok(None)` for a kind of a later version. The error: what is wrong, for people.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Option<Self>, String> {
        let mut rest = Rest(bytes);
        let kind = rest.byte()?;
        let frame = match kind {
            1 => Self::Serve {
                server: rest.number()?,
                shared: rest.byte()? != 0,
                name: rest.text()?,
                request: (rest.text()?, rest.number()?),
                reply: (rest.text()?, rest.number()?),
            },
            2 => Self::Unserve {
                server: rest.number()?,
            },
            3 => {
                return Ok(Some(Self::Request {
                    call: rest.number()?,
                    server: rest.number()?,
                    body: rest.0,
                }));
            }
            4 => Self::Taken {
                server: rest.number()?,
                count: rest.number()?,
            },
            5 => Self::Cancel {
                call: rest.number()?,
            },
            6 => {
                return Ok(Some(Self::Reply {
                    call: rest.number()?,
                    body: rest.0,
                }));
            }
            7 => Self::Failure {
                call: rest.number()?,
                number: rest.byte()?,
                text: rest.text()?,
            },
            _ => return Ok(None),
        };
        match rest.0 {
            [] => Ok(Some(frame)),
            left => Err(format!(
                "{} bytes are left over after a frame of kind {kind}",
                left.len()
            )),
        }
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| "a frame ends too early".to_owned())?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|byte| byte[0])
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut number = [0; 8];
        number.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(number))
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let mut length = [0; 4];
        length.copy_from_slice(self.take(4)?);
        let bytes = self.take(u32::from_le_bytes(length) as usize)?;
        std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_from_their_bytes() {
        let frames = [
            Frame::Serve {
                server: 7,
                shared: true,
                name: "add",
                request: ("Add", u64::MAX),
                reply: ("i64", 0),
            },
            Frame::Unserve { server: 7 },
            Frame::Request {
                call: 1,
                server: 7,
                body: &[1, 2, 3],
            },
            Frame::Taken {
                server: 7,
                count: 32,
            },
            Frame::Cancel { call: 1 },
            Frame::Reply { call: 1, body: &[] },
            Frame::Failure {
                call: 1,
                number: 3,
                text: "no",
            },
        ];
        for frame in frames {
            let bytes = frame.to_bytes();
            assert_eq!(Frame::read(&bytes), Ok(Some(frame.clone())));
            let cut = Frame::read(&bytes[..bytes.len() - 1]);
            let has_body = matches!(frame, Frame::Request { .. });
            assert_eq!(cut.is_ok(), has_body, "{frame:?}");
        }
        assert_eq!(Frame::read(&[99, 1]), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_mean_what_they_say(bytes: Vec<u8>) {
            if let Ok(Some(frame)) = Frame::read(&bytes) {
                let again = frame.to_bytes();
                proptest::prop_assert_eq!(Frame::read(&again), Ok(Some(frame)));
            }
        }
    }
}
